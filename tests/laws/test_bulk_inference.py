"""Promise 5, stop it any time: bulk inference may be killed at any moment, and divided among processes.

What is finished is not scored again, and the results are the same.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from support.bulk import contents, save_model, write_mixed
from support.bundles import BUNDLE

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux to tell processes apart")]

ONE = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "inference.json")]
TWO = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run",
    "--config_file", f"['{BUNDLE / 'inference.json'}','{BUNDLE / 'multi_gpu_inference.json'}']",
]  # fmt: skip


class Folder:
    """A folder with data and a model, in which commands are run."""

    def __init__(self, path: Path):
        self.path = path
        write_mixed(path / "data")
        # Long, so that a run that is looked at every few milliseconds is caught before it ends; and the sixth unit, so that rank 0 has to wait for rank 1.
        long = np.random.default_rng(1).integers(0, 200, (30, 32, 60)).astype(np.int16)
        nib.save(nib.Nifti1Image(long, np.diag([2.0, 2.0, 3.0, 1.0])), path / "data" / "m8.nii.gz")
        save_model(path / "model.pt")

    def start(self, command: list[str], out: str) -> subprocess.Popen:
        flags = ["--dataset_dir", "data", "--model", "model.pt", "--output_dir", out, "--batch_size", "4"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [*command, *flags], cwd=self.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, command: list[str], out: str) -> str:
        """What it said; it has to succeed."""
        process = self.start(command, out)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    def finished(self, out: str) -> set[str]:
        return {path.stem for path in (self.path / out / "finished" / "series").glob("*.json")}

    def wait_for(self, out: str, count: int, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 200
        while len(self.finished(out)) < count:
            assert time.monotonic() < deadline and process.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)

    def results(self, out: str) -> dict[str, bytes]:
        """All files but those that were being written at the moment of death."""
        return {name: content for name, content in contents(self.path / out).items() if not name.endswith(".part")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Folder:
    return Folder(tmp_path_factory.mktemp("bulk"))


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, bytes]:
    """The files of one process that nobody disturbed."""
    folder.run(ONE, "whole")
    return folder.results("whole")


def stamps(paths) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in paths}


def process_of_rank(rank: int, parent: int) -> int:
    """Its number; a child of torchrun's."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{parent}\n" in status.read_text() and f"RANK={rank}" in (status.parent / "environ").read_text().split("\0"):
                return int(status.parent.name)
        except OSError:  # it has just ended
            continue
    raise AssertionError(f"torchrun has no child with rank {rank}")


def test_killed_and_started_again_it_scores_what_is_left_and_ends_in_the_same_files(folder, whole):
    process = folder.start(ONE, "killed")
    folder.wait_for("killed", 6, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finished, out = folder.finished("killed"), folder.path / "killed"
    assert 6 <= len(finished) < 15
    for name, content in folder.results("killed").items():
        if not name.endswith((".csv", "metrics.json", "findings.json")):  # the tables know less than in the end
            assert content == whole[name], name
    volumes = stamps(path for path in out.glob("volumes/*") if path.name.removesuffix(".nii.gz") in finished)
    pictures = stamps(path for name in finished for path in out.glob(f"heatmaps/{name}_????.png") if not name.startswith(("a", "m")))
    said = folder.run(ONE, "killed")
    assert f"{len(finished)} of 15 series are finished and are not scored again; {15 - len(finished)} are left." in said
    assert pictures and volumes and stamps(pictures) == pictures and stamps(volumes) == volumes
    assert folder.results("killed") == whole


def test_two_processes_write_the_same_files_as_one(folder, whole):
    said = folder.run(TWO, "two")
    assert folder.results("two") == whole
    assert said.count("Scores and metrics: two") == 1  # rank 0 speaks for both
    assert 0 < int(re.search(r"Wrote the map volumes of (\d) series", said)[1]) < 5  # and has done a part


def test_when_a_process_dies_the_work_is_taken_up_by_whoever_comes(folder, whole):
    process = folder.start(TWO, "died")
    folder.wait_for("died", 2, process)
    os.kill(process_of_rank(1, process.pid), signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0, said
    finished = folder.finished("died")
    assert 2 <= len(finished) < 15
    said = folder.run(ONE, "died")
    assert f"{len(finished)} of 15 series are finished" in said and folder.results("died") == whole
