"""A real comparison: killed in the middle, gone on with, finished."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.tiny import write_image_folder

from monai_anomaly.__main__ import main
from monai_anomaly.compare import compare, lock, parse_flags, session
from monai_anomaly.compare.nearest import nearest_neighbour
from monai_anomaly.compare.plan import plan_runs, read_data_sets
from monai_anomaly.data import find_cases
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.training import load_detector

SYSTEMS = ["skipts", "skipts:maps=[2,3],pooling=top_20%", "skipts:teacher_weights=none.pth"]
SHARED = ["backbone=resnet18", "teacher_weights=random", "image_size=32", "batch_size=4"]


def words(images: Path, out: Path) -> list[str]:
    return [
        "compare",
        "--dataset_dir",
        str(images),
        "--systems",
        *SYSTEMS,
        "--seeds",
        "2",
        "--epochs",
        "2",
        "--set",
        *SHARED,
        "--out",
        str(out),
    ]


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("images") / "toy")


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    return plan_runs(read_data_sets([images]), SYSTEMS, 2, 2, parse_flags(SHARED), out)


@pytest.fixture(scope="module")
def killed(images, runs):
    """The same comparison, killed with all its processes in its second run; gives what was finished then."""
    out = runs[0].folder.parents[2]
    with subprocess.Popen([sys.executable, "-m", "monai_anomaly", *words(images, out)], start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 120
            log = runs[0].folder / "run.log"
            while not log.is_file() or log.read_text().count("Found 20 files") < 2:  # in the first run, and in the second
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert not (runs[1].evaluation / "metrics.json").exists()
    return contents(runs[0].evaluation)


@pytest.fixture(scope="module")
def finished(images, runs, killed):
    """The same command again; gives its exit status."""
    return main(words(images, runs[0].folder.parents[2]))


@pytest.fixture(scope="module")
def records(runs, finished) -> dict[tuple[str, int], dict]:
    lines = [json.loads(line) for line in (runs[0].folder.parents[2] / "runs.jsonl").read_text().splitlines()]
    return {(line.get("floor") or line["system"], line["seed"]): line for line in lines}


@pytest.mark.slow
def test_what_was_finished_before_the_kill_is_not_repeated(runs, killed, finished):
    assert len(killed) > 4 and contents(runs[0].evaluation) == killed


@pytest.mark.slow
def test_every_run_and_floor_has_its_line(runs, records):
    assert set(records) == {(system, seed) for system in SYSTEMS for seed in (42, 142)} | {
        ("mean intensity", None), ("nearest neighbour", 42), ("nearest neighbour", 142),
    }  # fmt: skip
    line = records[SYSTEMS[1], 142]
    metrics = json.loads((runs[0].folder.parents[2] / line["run"] / "metrics.json").read_text())
    assert line["image_auroc"] == metrics["metrics"]["image"]["auroc"] and line["pixel_aupro"] == metrics["metrics"]["pixel"]["aupro"]
    assert (
        line["overrides"] == {"maps": [2, 3], "pooling": "top_20%"}
        and line["epochs"] == 2
        and line["fingerprint"] == runs[0].dataset.fingerprint
    )
    assert metrics["rule"]["maps"] == [2, 3] and metrics["provenance"]["settings"]["seed"] == 142 and line["status"] == "completed"
    assert (
        line["teacher"]["untrained"] and len(line["teacher"]["sha256"]) == 64 and line["versions"]["torch"] and line["training_time_s"] > 0
    )
    assert line["settings"]["calibration_fraction"] == 0 and not (runs[0].folder / "checkpoint.pt").exists()


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_ends_nothing(runs, records, finished):
    table = (runs[0].folder.parents[2] / "table.md").read_text()
    assert finished == 2 and [records[SYSTEMS[2], seed]["status"] for seed in (42, 142)] == ["failed"] * 2
    assert records[SYSTEMS[2], 42]["reason"].startswith("No teacher weights at none.pth; expected")
    assert f"* {SYSTEMS[2]} on toy, seed 142: No teacher weights at none.pth" in table


@pytest.mark.slow
def test_the_table_is_made_of_the_lines(runs, records):
    rows = [
        line.strip("| ").split(" | ") for line in (runs[0].folder.parents[2] / "table.md").read_text().splitlines() if line.startswith("|")
    ]
    keys = ("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro")
    for system, row in zip(SYSTEMS[:2], rows[2:]):
        values = np.array([[records[system, seed][key] for key in keys] for seed in (42, 142)])
        assert row == [
            system,
            *(f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in zip(100 * values.mean(0), 100 * values.std(0, ddof=1))),
        ]
    floors = np.array([records["nearest neighbour", seed]["image_auroc"] for seed in (42, 142)])
    assert rows[-1][:2] == ["*nearest neighbour*", f"{100 * floors.mean():.1f} ± {100 * floors.std(ddof=1):.1f}"]
    assert rows[-2][:2] == ["*mean intensity*", f"{100 * records['mean intensity', None]['image_auroc']:.1f}"]


@pytest.mark.slow
def test_neighbours_are_looked_for_in_the_teacher_of_the_run(images, runs, records):
    cases = find_cases(images)
    for run in (runs[0], runs[3]):
        found = nearest_neighbour(load_detector(run.folder / "model.pt"), cases.select(split="train"), cases.select(split="test"))
        assert records["nearest neighbour", run.seed]["image_auroc"] == found["auroc"]


@pytest.mark.slow
def test_a_finished_comparison_runs_nothing_and_keeps_the_lines_of_others(images, runs, finished, monkeypatch):
    out = runs[0].folder.parents[2]
    monkeypatch.setattr(session, "run_config", lambda *_: pytest.fail("a finished run was started"))
    before = (out / "runs.jsonl").read_text().splitlines()
    result = compare([images], SYSTEMS[:2], 2, 2, parse_flags(SHARED), out)
    assert result.n_failed == 0 and (out / "table.md").read_text() == result.table
    assert sorted((out / "runs.jsonl").read_text().splitlines()) == sorted(before)


def test_an_interruption_leaves_what_is_there_and_the_status_of_one(images, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(session, "run_config", interrupted)
    assert main(words(images, tmp_path / "out")) == 130
    assert "same command" in capsys.readouterr().err and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("wrong", [["--systems", "skpts"], ["--set", "lr"], ["--seeds", "0"], ["--set", "nothing=1"]])
def test_what_is_wrong_is_refused_before_anything_is_written(images, tmp_path, capsys, wrong):
    assert main([*words(images, tmp_path / "out"), *wrong]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and not captured.out and not (tmp_path / "out").exists()


def test_a_folder_at_work_and_a_spoilt_list_are_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "run_config", lambda *_: "It fails.")
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    with session.hold_folder(tmp_path), pytest.raises(OptionError, match="in use"):
        compare([images], ["skipts"], 1, 1, {}, tmp_path)
    (tmp_path / "runs.jsonl").write_text('{"run": \n')
    with pytest.raises(DataError, match="cannot be read"):
        compare([images], ["skipts"], 1, 1, {}, tmp_path)
