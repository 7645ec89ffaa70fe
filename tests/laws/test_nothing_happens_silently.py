"""Promise 2, nothing happens silently: what is left out, replaced or refused is told in the log and in the record, and the counts add up."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.bulk import N_PICTURES, N_VOLUMES, save_model, write_mixed
from support.bundles import SMALL, run_bundle
from support.dicom import make_series
from support.runs import rows
from support.tiny import write_image_folder

from monai_anomaly.data import is_builtin_study
from monai_anomaly.data.study import folder as study


class Said(logging.Handler):
    """What the package logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def about(self, *words: str) -> list[str]:
        return [line for line in self.lines if all(word in line for word in words)]


@pytest.fixture
def said():
    ours, handler = logging.getLogger("monai_anomaly"), Said()
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield handler
    ours.removeHandler(handler)
    ours.setLevel(level)


def record(path: Path) -> dict:
    return json.loads(path.read_text())


def test_files_found_are_files_read_and_files_refused(said, tmp_path):
    data, out = write_mixed(tmp_path / "data"), tmp_path / "out"
    make_series(data / "gap", n=6, shape=(40, 36), uid="1.2.826.0.1.3680043.10.9", patient="p9")
    (data / "gap" / "IM0002").unlink()
    run_bundle("inference", dataset_dir=str(data), model=str(save_model(tmp_path / "m.pt")), output_dir=str(out), batch_size=4)
    refused = rows(out / "refused.csv")
    read, counts = N_PICTURES + N_VOLUMES + 5 + 8, record(out / "metrics.json")["counts"]
    assert sum(path.is_file() for path in data.rglob("*")) == counts["files_found"] == read + sum(int(row["files"]) for row in refused)
    assert len(refused) == len(record(out / "metrics.json")["refused"]) == 2
    assert counts["series_found"] == sum(counts[name] for name in ("series", "series_empty", "series_refused", "series_left"))
    for row in refused:
        assert "expected" in row["reason"] and said.about(row["reason"])
    slices = N_PICTURES + 5 + 6 + 5 + 8
    assert len(rows(out / "images.csv")) == counts["slices_scored"] == slices - counts["empty_slices"]
    assert counts["empty_slices"] == N_VOLUMES and said.about("empty", "2")


def test_training_tells_what_it_leaves_out(said, tmp_path):
    data, out = write_image_folder(tmp_path / "data", 6, 2), tmp_path / "out"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(data / "train" / "good" / "black.png")
    (data / "train" / "good" / "broken.png").write_bytes(b"no picture")
    run_bundle("train", dataset_dir=str(data), output_dir=str(out), calibration_fraction=0, **SMALL)
    told = record(out / "run.json")["data"]
    assert told["files_found"] == 12 and told["train"]["cases"] == 6 + 1 and told["train"]["empty_slices_left_out"] == 1
    (refused,) = told["refused"]
    assert "broken" in refused["where"] and said.about("broken", refused["reason"]) and said.about("empty")


def test_a_teacher_that_is_not_trained_is_told_wherever_its_scores_are(said, tmp_path, monkeypatch):
    """Only the built-in study may fall back on one."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    monkeypatch.setattr(study, "PATIENTS", {("training", "good"): 5, ("testing", "good"): 1, ("testing", "bleed"): 1})
    data, out = study.write_study(tmp_path / "study", progress=False), tmp_path / "out"
    assert is_builtin_study(data)
    run_bundle("train", dataset_dir=str(data), output_dir=str(out), **SMALL | {"image_size": 32, "teacher_weights": "IMAGENET1K_V1"})
    assert said.about("NO IMAGENET WEIGHTS", "UNTRAINED")
    for file in (out / "run.json", out / "evaluation" / "metrics.json"):
        assert record(file)["teacher"]["untrained"] is True and record(file)["teacher"]["source"] == "random"
