"""The page of slices."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.report import SaveContactSheet, Tile, write_contact_sheet


def tile(value: float, size: tuple[int, int] = (48, 48), mask: bool = False) -> Tile:
    drawn = np.zeros((1, *size), dtype=np.uint8)
    drawn[0, :20, 10:30] = 1
    return Tile(np.full((1, *size), 0.3), np.full(size, value), "s-07", 2, value, 0.04, drawn if mask else None)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def share(page: np.ndarray, colour: tuple[int, int, int], tolerance: int = 12) -> float:
    return float((np.abs(page - colour) <= tolerance).all(axis=2).mean())


def test_page_grows_with_its_rows_and_columns(tmp_path: Path) -> None:
    one = read(write_contact_sheet(tmp_path / "a.png", [("Most anomalous", [tile(1.0)] * 4)], (0.0, 1.0), "Title $x_"))
    two = read(
        write_contact_sheet(
            tmp_path / "b.png", [("Most anomalous", [tile(1.0)] * 4), ("Most normal", [tile(0.0)] * 4)], (0.0, 1.0), "Title"
        )
    )
    empty = read(
        write_contact_sheet(tmp_path / "c.png", [("Most anomalous", [tile(1.0)] * 4), ("Most normal", [])], (0.0, 1.0), "Title $x_")
    )
    assert two.shape[0] > 1.6 * one.shape[0] and two.shape[1] == one.shape[1]
    np.testing.assert_array_equal(one, empty)


def test_tiles_share_the_models_scale_and_ground_truth_is_drawn(tmp_path: Path) -> None:
    pages = {
        name: read(write_contact_sheet(tmp_path / f"{name}.png", [("Slices", [tile(value, mask=mask), tile(0.0)])], (0.0, 1.0)))
        for name, value, mask in (("cool", 0.0, False), ("hot", 1.0, False), ("truth", 1.0, True))
    }
    grey = (77, 77, 77)
    # A quarter of the four pictures turns from grey to the hottest colour, though each map is constant.
    assert share(pages["hot"], grey) == pytest.approx(0.75 * share(pages["cool"], grey), rel=0.05)
    line = (0, 255, 200)
    assert share(pages["truth"], line, 40) > 0.0005 and share(pages["hot"], line, 40) == 0


def test_shapes_may_differ_between_tiles(tmp_path: Path) -> None:
    assert (
        write_contact_sheet(tmp_path / "a.png", [("x", [tile(0.2, (30, 60)), tile(0.4, (64, 40), mask=True)])], (0.0, 1.0)).stat().st_size
        > 5000
    )


def test_a_tile_in_the_patient_bears_its_sides_and_a_length(tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr("monai_anomaly.report.contact_sheet.draw_sides", lambda axes, *args: drawn.append((axes.get_aspect(), *args)))
    in_patient = Tile(np.full((1, 48, 48), 0.3), np.zeros((48, 48)), spacing_mm=(4.0, 2.0), edges="SIAP")
    write_contact_sheet(tmp_path / "a.png", [("x", [in_patient, tile(0.1)])], (0.0, 1.0))
    assert drawn == [(2.0, 48, (4.0, 2.0), "SIAP"), (1.0, 48, None, "")]  # once for each tile: over the image, not over the map
    monkeypatch.undo()
    without = dataclasses.replace(in_patient, edges="")
    page, bare = (read(write_contact_sheet(tmp_path / "b.png", [("x", [one])], (0.0, 1.0))) for one in (in_patient, without))
    changed = np.flatnonzero((page != bare).any(axis=(1, 2)))
    assert len(changed) > 15 and changed.max() - changed.min() < 2.2 * 130  # letters, within the image
    with pytest.raises(OptionError, match="four letters"):
        write_contact_sheet(tmp_path / "c.png", [("x", [Tile(np.zeros((1, 8, 8)), np.zeros((8, 8)), edges="AP")])], (0.0, 1.0))


def test_what_an_evaluator_says_of_places_and_lesions_is_on_the_tiles(tmp_path: Path, monkeypatch) -> None:
    """Sagittal slices of 40 rows of 5 mm and 20 columns of 2 mm, resized to 16 x 16; a photograph; a patient with a lesion in one slice alone."""
    rows: dict = {}
    monkeypatch.setattr("monai_anomaly.report.save_sheet.write_contact_sheet", lambda path, drawn, *args: rows.update(drawn))
    cases = [
        {"series": "s-a", "label": 1, "group": "mass"},
        {"series": "b", "label": 0, "group": "good"},
        {"series": "s-c", "label": 1, "group": "mass"},
    ]
    affine = torch.tensor([[0.0, 0, 3, 0], [0, -2, 0, 0], [-5, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    output = {
        "image": torch.zeros(3, 3, 16, 16), "pred": torch.zeros(3, 1, 16, 16), "score": torch.tensor([3.0, 2.0, 1.0]), "case": torch.tensor([0, 1, 2]),
        "slice_index": torch.tensor([4, 0, 7]), "label": torch.tensor([1, 0, 0]), "in_patient": torch.tensor([True, False, True]),
        "slice_affine": affine.expand(3, 4, 4), "slice_shape": torch.tensor([[40, 20, 9]] * 3),
    }  # fmt: skip
    engine = Engine(lambda engine, batch: batch)
    SaveContactSheet(tmp_path / "page.png", cases, (0.0, 1.0)).attach(engine)
    engine.run([output])
    found = [(one.series, one.spacing_mm, one.edges) for one in rows["Most anomalous"]]
    assert found == [("s-a (mass)", (12.5, 2.5), "SIAP"), ("b (good)", None, ""), ("s-c: slice without lesion", (12.5, 2.5), "SIAP")]


def test_it_leaves_pyplot_alone(tmp_path: Path) -> None:
    import matplotlib

    backend = matplotlib.rcParams._get("backend") if hasattr(matplotlib.rcParams, "_get") else None
    write_contact_sheet(tmp_path / "a.png", [("x", [tile(0.2)])], (0.0, 1.0))
    if backend is not None:
        assert matplotlib.rcParams._get("backend") == backend
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    for rows in ([], [("x", [])]):
        with pytest.raises(OptionError, match="without a tile"):
            write_contact_sheet(tmp_path / "a.png", rows, (0.0, 1.0))
    with pytest.raises(OptionError, match="lower one first"):
        write_contact_sheet(tmp_path / "a.png", [("x", [tile(0.2)])], (1.0, 1.0))
    with pytest.raises(DataError, match="anomaly map has shape"):
        write_contact_sheet(tmp_path / "a.png", [("x", [Tile(np.zeros((1, 8, 8)), np.zeros((4, 4)))])], (0.0, 1.0))
    assert not list(tmp_path.iterdir())
