"""Pictures written while an evaluator runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anomaly.writers import SaveHeatmaps

CASES = [{"series": "s-a", "label": 0}, {"series": "one"}, {"series": "s-b"}, {"series": "broken"}]


@pytest.fixture
def study(scored):
    """Maps whose value says where they come from; slice 1 of s-b is empty, the last case cannot be read."""
    values = [10.0 * case + torch.arange(n) for case, n in enumerate((3, 1, 4, 2))]
    maps = [value[:, None, None].expand(-1, 8, 8) for value in values]
    return [scored(maps[0]), scored(maps[1]), scored(maps[2], scored=[True, False, True, True]), scored(maps[3], refused="unreadable")]


def test_one_picture_for_each_scored_slice(tmp_path: Path, study, drive) -> None:
    drive(SaveHeatmaps(tmp_path, CASES, (0.0, 30.0), {"image": {"scores": [1.0, 2.0]}}), study)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{CASES[case]['series']}_{k:04}.png" for case, slices in enumerate(((0, 1, 2), (0,), (0, 2, 3))) for k in slices}


def test_the_same_value_has_the_same_colour_in_every_picture(tmp_path: Path, scored, drive) -> None:
    """The scale is the model's: a map of 20 looks the same beside colder and beside hotter slices."""
    for name, hottest in (("alone", 20.0), ("beside", 29.0)):
        maps = torch.tensor([20.0, hottest])[:, None, None].expand(2, 64, 64)
        drive(SaveHeatmaps(tmp_path / name, CASES, (0.0, 30.0)), [scored(maps)])
    first, second = (np.asarray(Image.open(tmp_path / name / "s-a_0000.png")) for name in ("alone", "beside"))
    assert np.array_equal(first, second)
