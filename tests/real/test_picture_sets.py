"""Real picture sets: Pillow is the truth; colour stays colour, grey stored as colour is grey, soft masks are cut at one half."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.dicom_frames import make_oct
from support.reading import adds_up, read
from support.scoring import bundle_slices, slice_scores

from monai_anomaly.data import find_cases

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("name", "train", "good", "bad", "group"),
    [("oct_srf", 10, 5, 15, "srf"), ("chest_xray", 32, 16, 28, "pneumonia"), ("malaria_cells", 3, 2, 5, "parasitized")],
)
def test_what_is_found(shared, name, train, good, bad, group):
    found = find_cases(shared / "data" / name)
    assert adds_up(found) and not found.refused and found.found == train + good + bad
    assert (len(found.select("train", 0)), len(found.select("test", 0)), len(found.select("test", 1))) == (train, good, bad)
    assert {case["group"] for case in found.select(label=1)} == {path.name for path in (shared / "data" / name / "test").iterdir()} - {
        "good"
    }
    assert any(group in case["group"] for case in found.select(label=1))


@pytest.mark.parametrize("name", ["oct_srf", "chest_xray", "malaria_cells", "polyps_kvasir/images", "polyps_kvasir/masks"])
def test_pixels_are_pillows(shared, name):
    for case in find_cases(shared / "data" / name).cases:
        array, meta = read(case["image"])
        with Image.open(case["image"]) as image:
            truth = np.asarray(image.convert("RGB"))
        assert array.dtype == np.uint8 and meta["value_range"] == (0, 255) and meta["geometry"] == "none" and meta["modality"] == ""
        np.testing.assert_array_equal(meta["affine"], np.eye(4))
        grey = (truth == truth[..., :1]).all()
        np.testing.assert_array_equal(array[:, :, 0], truth[..., 0] if grey else truth)
        assert grey == (not name.startswith(("malaria", "polyps_kvasir/images")))


def test_sizes(shared):
    shapes = {
        name: {read(case["image"])[0].shape[:2] for case in find_cases(shared / "data" / name).cases} for name in ("oct_srf", "chest_xray")
    }
    assert shapes == {"oct_srf": {(560, 569)}, "chest_xray": {(512, 512)}}
    cells = [read(case["image"])[0].shape for case in find_cases(shared / "data/malaria_cells").cases]
    assert all(100 <= side <= 151 for shape in cells for side in shape[:2]) and {shape[2:] for shape in cells} == {(1, 3)}


def test_opaque_alpha_and_a_white_frame_stay(shared):
    """The alpha channel of the OCT pictures is opaque everywhere: nothing is laid on black."""
    array, _ = read(str(next((shared / "data/oct_srf/train/good").iterdir())))
    assert (array[0] == 255).all() and array.ndim == 3


def test_soft_colour_masks_are_cut_at_one_half(shared, tmp_path):
    """JPEG masks hold every value between 0 and 255; a voxel is marked above 127."""
    kvasir = shared / "data/polyps_kvasir"
    (tmp_path / "train/good").mkdir(parents=True)
    shutil.copytree(kvasir / "images", tmp_path / "test/polyp")
    shutil.copytree(kvasir / "masks", tmp_path / "ground_truth/polyp")
    found = find_cases(tmp_path)
    assert adds_up(found) and found.found == 5 and all("mask" in case for case in found.cases)
    dataset = bundle_slices(found.cases, 256)
    for number, case in enumerate(found.cases):
        sample = dataset[number]
        with Image.open(case["mask"]) as image:
            grey = np.asarray(image.convert("L"))
        assert len(np.unique(grey)) > 10 and not sample["refused"] and sample["label"] == 1
        assert sample["mask"].float().mean().item() == pytest.approx((grey > 127).mean(), abs=0.01)
        assert set(sample["mask"].unique().tolist()) == {0, 1}


def test_an_oct_stack_is_scored_like_its_pictures(shared, tmp_path):
    """The same B-scans as pictures and as one ophthalmic tomography file: the same slices, the same scores."""
    paths = sorted((shared / "data/oct_srf/test/srf").iterdir())[:4]
    scans = np.stack([np.asarray(Image.open(path).convert("L")) for path in paths])
    make_oct(tmp_path / "oct", scans)
    (case,) = find_cases(tmp_path).cases
    array, meta = read(case["image"])
    np.testing.assert_array_equal(array, np.moveaxis(scans, 0, 2))
    assert meta["modality"] == "OPT" and meta["geometry"] == "patient"
    dataset = bundle_slices([case])
    assert [sample["slice_index"] for sample in map(dataset.__getitem__, range(4))] == [0, 1, 2, 3]
    (stack,) = slice_scores([case["image"]])
    assert stack.shape == (4,) and stack.isfinite().all() and stack.unique().numel() == 4


def test_polyps_have_five_images_and_five_masks(shared):
    found = find_cases(shared / "data/polyps_kvasir")
    names = [Path(str(case["image"])).parts[-2] for case in found.cases]
    assert adds_up(found) and sorted(names) == ["images"] * 5 + ["masks"] * 5
