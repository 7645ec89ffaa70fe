"""What a training left, compared with what another one left."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch


def rows(path: Path) -> list[dict[str, str]]:
    """A table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def state(folder: Path) -> dict[str, torch.Tensor]:
    """The model."""
    return torch.load(folder / "model.pt", weights_only=True)


def losses(folder: Path) -> list[dict[str, float]]:
    """The mean of each term in each epoch."""
    return json.loads((folder / "run.json").read_text())["epochs"]


def assert_same_end(folder: Path, whole: Path) -> None:
    """Weights, batch statistics, calibration, provenance and losses, bit for bit, and the scores of the evaluation."""
    here, there = state(folder), state(whole)
    assert set(here) == set(there) and not [key for key in here if not torch.equal(here[key], there[key])]
    assert losses(folder) == losses(whole)
    assert json.loads((folder / "run.json").read_text())["status"] == "completed"
    for name in ("images.csv", "series.csv", "patients.csv", "metrics.json"):
        assert (folder / "evaluation" / name).read_bytes() == (whole / "evaluation" / name).read_bytes()
    assert not list(folder.rglob("*.part"))
