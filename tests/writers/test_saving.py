"""Handlers that write while an evaluator runs, driven by the batches of a loader."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from monai_anomaly.report import SaveContactSheet
from monai_anomaly.writers import SaveHeatmaps, SaveVolumes

CASES = [{"series": "s-a", "label": 0}, {"series": "one"}, {"series": "s-b"}, {"series": "broken"}]
INDEX = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1)]
AFFINE = torch.tensor([[0.0, -2.0, 0, 10], [-1.0, 0, 0, 20], [0, 0, 5.0, -30], [0, 0, 0, 1]], dtype=torch.float64)


def batches(size: int):
    """Maps whose value says where they come from; slice 1 of s-b is empty, the last case cannot be read."""
    for start in range(0, len(INDEX), size):
        part = INDEX[start : start + size]
        maps = torch.stack([torch.full((1, 8, 8), 10.0 * case + k) for case, k in part])
        score = maps.flatten(1).amax(1)
        score[[k for k, place in enumerate(part) if place == (2, 1) or place[0] == 3]] = torch.nan
        yield {
            "image": torch.zeros(len(part), 3, 8, 8), "pred": maps, "score": score, "mask": torch.zeros(len(part), 1, 8, 8, dtype=torch.uint8),
            "case": torch.tensor([case for case, _ in part]), "slice_index": torch.tensor([k for _, k in part]),
            "affine": AFFINE.repeat(len(part), 1, 1), "source_shape": torch.tensor([[6, 12]]).repeat(len(part), 1),
            "refused": ["unreadable" if case == 3 else "" for case, _ in part],
        }  # fmt: skip


def drive(handler, size: int):
    engine = Engine(lambda engine, batch: batch)
    handler.attach(engine)
    engine.run(list(batches(size)))


@pytest.mark.parametrize("size", [1, 3, 4, 10])
def test_each_series_becomes_one_volume_however_it_was_cut_into_batches(tmp_path, size):
    drive(SaveVolumes(tmp_path, CASES), size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s-a.nii.gz", "s-b.nii.gz"]
    a, b = (nib.load(tmp_path / f"s-{name}.nii.gz") for name in "ab")
    assert a.shape == (12, 6, 3) and b.shape == (12, 6, 4)
    np.testing.assert_allclose(a.get_fdata()[0, 0], [0, 1, 2])
    np.testing.assert_allclose(b.get_fdata()[0, 0], [20, np.nan, 22, 23])
    # (column 3, row 1, slice 2) of the file lies where (row 1, column 3, slice 2) of the series does.
    np.testing.assert_allclose(a.affine @ [3, 1, 2, 1], AFFINE.numpy() @ [1, 3, 2, 1])


def test_one_picture_for_each_scored_slice(tmp_path):
    drive(SaveHeatmaps(tmp_path, CASES, (0.0, 30.0), {"image": {"scores": [1.0, 2.0]}}), 4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"{CASES[case]['series']}_{k:04}.png" for case, k in INDEX if (case, k) != (2, 1) and case != 3)


def test_the_same_value_has_the_same_colour_in_every_picture(tmp_path):
    """The scale is the model's: a map of 20 looks the same beside colder and beside hotter slices."""
    for name, hottest in (("alone", 20.0), ("beside", 29.0)):
        maps = torch.tensor([20.0, hottest])[:, None, None, None].expand(2, 1, 64, 64)
        batch = next(batches(2)) | {"image": torch.zeros(2, 3, 64, 64), "pred": maps, "score": torch.tensor([20.0, hottest])}
        engine = Engine(lambda engine, batch: batch)
        SaveHeatmaps(tmp_path / name, CASES, (0.0, 30.0)).attach(engine)
        engine.run([batch])
    first, second = (np.asarray(Image.open(tmp_path / name / "s-a_0000.png")) for name in ("alone", "beside"))
    assert np.array_equal(first, second)


def test_the_page_shows_each_series_once_and_nothing_unscored(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("monai_anomaly.report.save_sheet.write_contact_sheet", lambda path, rows, *args: drawn.update(rows=rows))
    drive(SaveContactSheet(tmp_path / "page.png", CASES, (0.0, 30.0)), 3)
    tiles = [tile for _, group in drawn["rows"] for tile in group]
    assert [(tile.series, tile.slice_index) for tile in drawn["rows"][0][1]] == [("s-b", 3), ("one", 0), ("s-a", 2)]
    assert all(tile.series != "broken" and (tile.series, tile.slice_index) != ("s-b", 1) for tile in tiles)
