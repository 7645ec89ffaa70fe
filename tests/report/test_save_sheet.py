"""The page that is written while an evaluator runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from monai_anomaly.report import SaveContactSheet

CASES = [{"series": "s-a", "label": 0}, {"series": "one"}, {"series": "s-b"}, {"series": "broken"}]
NAN = float("nan")
SCORES = {0: (0.0, 1.0, 2.0), 1: (10.0,), 2: (20.0, NAN, 22.0, 23.0), 3: (NAN, NAN)}
"""Of each case's slices; slice 1 of s-b is empty, the last case cannot be read."""


@pytest.fixture
def drawn(monkeypatch) -> dict[str, Any]:
    """The rows of tiles that would be drawn."""
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("monai_anomaly.report.save_sheet.write_contact_sheet", lambda path, rows, *args: drawn.update(rows=rows))
    return drawn


def run(handler: SaveContactSheet, size: int) -> None:
    """What an evaluator says, cut into batches."""
    rows = [(score, case, k) for case, scores in SCORES.items() for k, score in enumerate(scores)]
    batches = []
    for start in range(0, len(rows), size):
        scores, cases, slices = (torch.tensor(values) for values in zip(*rows[start : start + size]))
        n = len(scores)
        batches.append(
            {"score": scores, "case": cases, "slice_index": slices, "image": torch.zeros(n, 3, 8, 8), "pred": torch.zeros(n, 1, 8, 8)}
        )
        batches[-1]["mask"] = torch.zeros(n, 1, 8, 8)
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(batches)


def test_the_page_shows_each_series_once_and_nothing_unscored(tmp_path: Path, drawn) -> None:
    run(SaveContactSheet(tmp_path / "page.png", CASES, (0.0, 30.0)), 3)
    tiles = [tile for _, group in drawn["rows"] for tile in group]
    assert [(tile.series, tile.slice_index) for tile in drawn["rows"][0][1]] == [("s-b", 3), ("one", 0), ("s-a", 2)]
    assert all(tile.series != "broken" and (tile.series, tile.slice_index) != ("s-b", 1) for tile in tiles)


def test_only_the_slices_of_the_page_are_held(tmp_path: Path, drawn) -> None:
    """Not the batches that they came in."""
    run(SaveContactSheet(tmp_path / "page.png", CASES, (0.0, 30.0)), 8)
    for tile in drawn["rows"][0][1]:
        for tensor in (tile.image, tile.anomaly_map, tile.mask):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
