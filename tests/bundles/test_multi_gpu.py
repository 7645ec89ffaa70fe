"""Bundles in several processes: two with gloo, as on a machine without a GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.bundles import BUNDLE
from support.repository import ROOT
from support.runs import losses, state
from support.tiny import write_image_folder

from monai_anomaly.data import find_cases, fingerprint, shard

EPOCHS = 6
COMMAND = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle", "run"]
FLAGS = ["--image_size", "64", "--batch_size", "4", "--backbone", "resnet18", "--teacher_weights", "random"]


def start(data: Path, out: Path, *flags: str) -> subprocess.Popen[str]:
    """The documented line."""
    configs = "['bundles/skipts/train.json','bundles/skipts/multi_gpu_train.json']"
    words = [*FLAGS, "--dataset_dir", str(data), "--output_dir", str(out), "--epochs", str(EPOCHS), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, "--config_file", configs, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


def trained(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Weights and losses of a run."""
    return {key: value for key, value in state(folder).items() if key != "_extra_state"}, losses(folder)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("images") / "set", n_train=11)  # 9 to train on: 5 and 4, which is 2 batches and 1


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("two") / "out"
    code, printed = end(start(folder, place))
    assert code == 0, printed[-4000:]
    (place / "log.txt").write_text(printed)
    return place


@pytest.mark.slow
def test_two_processes_leave_one_model_and_a_record_of_both(out, folder):
    assert {path.name for path in out.iterdir()} == {"model.pt", "checkpoint.pt", "run.json", "tensorboard", "evaluation", "log.txt"}
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "completed" and record["processes"] == 2 and record["settings"]["sync_batch_norm"] is False
    assert len(record["epochs"]) == EPOCHS and record["epochs"][-1]["loss"] < 0.9 * record["epochs"][0]["loss"]
    data = record["data"]
    assert [data["train"][name] for name in ("cases", "patients", "slices")] == [9, 9, 9] and data["train"]["intensity"] == {
        "image storage range 0 to 255": 9
    }
    assert data["calibration"]["slices"] == 2 and data["files_found"] == 19 and data["refused"] == []
    assert data["fingerprint"] == fingerprint(find_cases(folder).cases)
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())["metrics"]
    assert metrics["image"]["n_normal"] == metrics["image"]["n_abnormal"] == 4
    assert (
        len({path.name.split(".")[-2] for path in (out / "tensorboard").iterdir()}) == 1
    )  # one process writes curves: its id is in the names


@pytest.mark.slow
def test_the_log_says_things_once(out):
    printed = (out / "log.txt").read_text()
    for sentence in (
        "Defaults are those of",
        "UNTRAINED",
        "The model of the last epoch",
        "9 cases to train on",
        "process 0 has 5 of them",
    ):
        assert printed.count(sentence) == 1, sentence
    assert "process 1" not in printed


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_same_line_goes_on_to_the_same_weights(out, folder, tmp_path):
    run = start(folder, tmp_path)
    while not (tmp_path / "checkpoint.pt").exists():
        assert run.poll() is None
        time.sleep(0.02)
    for child in children(run.pid):
        if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            os.kill(child, signal.SIGKILL)
    code, printed = end(run)
    assert code != 0 and "SIGKILL" in printed and not (tmp_path / "model.pt").exists()
    assert "[rank0]" not in printed  # the other process only saw it go, and is silent about it
    code, printed = end(start(folder, tmp_path))
    assert code == 0 and printed.count("Going on after epoch") == 1, printed[-4000:]
    (weights, losses), (expected, uninterrupted) = trained(tmp_path), trained(out)
    assert losses == uninterrupted
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_what_only_one_process_cannot_read_ends_all_in_one_sentence(tmp_path):
    data = write_image_folder(tmp_path / "set", n_train=6, n_test=0)
    for case in shard(find_cases(data).select(split="train"), 1, 2, seed=42):
        path = Path(case["image"])
        pixels = bytearray(path.read_bytes())
        pixels[60:] = bytes(len(pixels) - 60)  # the header stays, so that nobody notices before the pixels are wanted
        path.write_bytes(pixels)
    code, printed = end(start(data, tmp_path / "out", "--calibration_fraction", "0"))
    assert code != 0 and printed.count("No slice is left: 3 of 3 cases refused") == 1, printed[-4000:]
    assert printed.count("Left out train_good") == 3 and "[rank" not in printed and not (tmp_path / "out" / "model.pt").exists()


@pytest.mark.slow
def test_a_mistyped_flag_is_refused_once(folder, tmp_path):
    code, printed = end(start(folder, tmp_path, "--epochz", "3"))
    assert code != 0 and printed.count("train.json + multi_gpu_train.json has no flag --epochz; did you mean --epochs?") == 1


def forked(folder: Path, runs: list[tuple[str, str, int]]) -> list[int]:
    """Exit codes of both processes of each run, (bundle, output, epochs), one run after the other."""
    data = write_image_folder(folder / "set", n_train=6, n_test=0)  # 3 and 2 to train on
    places = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    command = [sys.executable, str(ROOT / "tests" / "support" / "forked_runs.py"), str(data), str(folder), json.dumps(runs)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places}, capture_output=True, text=True)
    codes = json.loads((folder / "exit_codes.json").read_text())
    assert codes == [0] * len(codes), done.stderr[-4000:]
    return codes


@pytest.mark.slow
def test_ten_of_ten_runs_end_with_exit_code_0_and_the_same_weights(tmp_path):
    assert len(forked(tmp_path, [("skipts", str(number), 1) for number in range(10)])) == 20
    first, losses = trained(tmp_path / "0")
    for number in range(1, 10):
        weights, again = trained(tmp_path / str(number))
        assert again == losses and all(torch.equal(weights[key], first[key]) for key in first)


@pytest.mark.slow
def test_systems_with_pseudo_anomalies_go_on_to_the_same_weights(tmp_path):
    """Two groups of parameters, a pair of images through DDP, one network twice in a step, noise of its own on each rank."""
    systems = ("escdrkd", "scrd4ad", "drd")
    forked(tmp_path, [(name, f"{name}_{place}", n) for name in systems for place, n in (("whole", 2), ("parts", 1), ("parts", 2))])
    for name in systems:
        (weights, losses), (expected, uninterrupted) = trained(tmp_path / f"{name}_parts"), trained(tmp_path / f"{name}_whole")
        assert losses == uninterrupted and len(losses) == 2 and "pseudo_unchanged" in losses[0]
        assert all(torch.equal(weights[key], expected[key]) for key in expected)
        record = json.loads((tmp_path / f"{name}_parts" / "run.json").read_text())
        assert record["processes"] == 2 and [stop["after_epoch"] for stop in record["resumed"]] == [1]


def test_the_overlay_follows_train_json():
    """What it replaces says the same, once for all processes; what train.json gains must not get lost here."""
    train, overlay = (json.loads((BUNDLE / name).read_text()) for name in ("train.json", "multi_gpu_train.json"))
    begin, *rest = train["initialize"]
    rest.remove("$mab.check_cases(@train#dataset#data, @split[0])")  # the overlay itself gives each process its own part of them
    assert overlay["initialize"] == [begin, "$mar.start_ranks(@device)", *rest] and "finalize" not in train
    for name in ("cases", "split", "duplicates"):
        assert overlay[name] == f"$mar.from_rank_0(lambda: {train[name].removeprefix('$')})"
    assert train["network"].removeprefix("$") in overlay["network"]["module"]
