"""Promise 1, files in, files out: what a clinic has goes in as it is; results lie on its grid, in the same patient coordinates, or a sentence says why not."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from support.bulk import save_model
from support.bundles import run_bundle
from support.dicom import OBLIQUE, make_series
from support.runs import rows
from support.tiny import blob

TURNED = np.linalg.qr([[3.0, -1.0, 0.2], [1.0, 3.0, 0.3], [0.1, -0.2, 3.0]])[0] * (1.8, 1.7, 4.0)
"""Axes of a NIfTI volume, in mm, along none of those of the patient."""


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    """A CT series that is tilted, one with a slice missing, a NIfTI volume that is turned, and a picture of 16 bits."""
    folder, rng = tmp_path_factory.mktemp("export"), np.random.default_rng(0)
    make_series(
        folder / "ct", n=6, shape=(40, 36), spacing=(0.7, 0.9), origin=(0, 0, 0), orientation=OBLIQUE, uid="1.2.826.0.1.3680043.10.1"
    )
    make_series(folder / "gap", n=6, shape=(40, 36), origin=(0, 0, 0), uid="1.2.826.0.1.3680043.10.2")
    (folder / "gap" / "IM0003").unlink()
    affine = np.block([[TURNED, np.array([[-40.0], [12.0], [7.0]])], [np.zeros(3), 1.0]])
    nib.save(nib.Nifti1Image(rng.integers(0, 900, (32, 28, 5)).astype(np.int16), affine), folder / "mr.nii.gz")
    Image.fromarray(blob(rng, lesion=True)[0].astype(np.uint16) * 257).save(folder / "oct.png")
    return folder


@pytest.fixture(scope="module")
def results(export, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("results")
    run_bundle("inference", dataset_dir=str(export), model=str(save_model(out / "model.pt")), output_dir=str(out / "out"), batch_size=4)
    return out / "out"


def corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where the centres of the eight outermost voxels lie, ``(8, 3)``, in an order of their own."""
    found = [affine @ (*index, 1) for index in itertools.product(*((0, size - 1) for size in shape))]
    return np.array(sorted(tuple(np.round(corner[:3], 2) + 0.0) for corner in found))


def test_a_volume_comes_back_on_its_own_grid(export, results):
    source, result = nib.load(export / "mr.nii.gz"), nib.load(results / "volumes" / "mr.nii.gz")
    assert result.shape == source.shape
    np.testing.assert_allclose(result.affine, source.affine, atol=1e-4)
    assert np.isfinite(result.get_fdata()).all() and result.get_fdata().std() > 0


def test_a_series_comes_back_where_its_files_say_that_the_patient_lay(export, results):
    files = sorted((pydicom.dcmread(path) for path in (export / "ct").iterdir()), key=lambda each: each.InstanceNumber)
    first, last = files[0], files[-1]
    row, column = np.array(first.ImageOrientationPatient[:3]), np.array(first.ImageOrientationPatient[3:])
    # PS3.3 C.7.6.2.1.1, and DICOM's axes (left, posterior) against those of NIfTI (right, anterior).
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = column * first.PixelSpacing[0], row * first.PixelSpacing[1]
    affine[:3, 2] = (np.array(last.ImagePositionPatient) - np.array(first.ImagePositionPatient)) / (len(files) - 1)
    affine[:3, 3] = first.ImagePositionPatient
    affine[:2] *= -1
    (path,) = (results / "volumes").glob("s-*.nii.gz")
    result = nib.load(path)
    assert sorted(result.shape) == sorted((first.Rows, first.Columns, len(files)))
    np.testing.assert_allclose(corners(result.affine, result.shape), corners(affine, (first.Rows, first.Columns, len(files))), atol=0.02)


def test_a_picture_of_16_bits_is_scored_and_drawn(results):
    assert [row["p_value"] != "" for row in rows(results / "images.csv") if row["series"] == "oct"] == [True]
    assert (results / "heatmaps" / "oct_0000.png").is_file()


def test_a_series_with_a_gap_is_refused_with_a_sentence_and_leaves_no_result(results):
    (refused,) = rows(results / "refused.csv")
    assert refused["files"] == "5" and "expected" in refused["reason"] and refused["reason"].endswith(".")
    assert len(rows(results / "series.csv")) == 3 and len([*(results / "volumes").iterdir()]) == 2
