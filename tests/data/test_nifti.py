"""NIfTI headers: units, and files that do not say where they lie."""

from __future__ import annotations

import itk
import nibabel as nib
import numpy as np
import pytest

from monai_anomaly.data import find_cases
from monai_anomaly.data.find import find_sources
from monai_anomaly.data.nifti import NiftiSpace, nifti_grid, nifti_space

AFFINE = np.array([[0.0, -2, 0, 10], [1, 0, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


def volume(path, unit="mm", sform=1, qform=1):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), AFFINE)
    image.header.set_xyzt_units(unit)
    image.set_sform(AFFINE, sform)
    image.set_qform(AFFINE, qform)
    image.to_filename(path)
    return str(path)


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1)])
@pytest.mark.parametrize("unit", ["unknown", "meter", "mm", "micron"])
def test_places_are_those_of_itk_whatever_the_unit(tmp_path, unit, codes):
    path = volume(tmp_path / "a.nii", unit, *codes)
    grid, image = nifti_grid(path), itk.imread(path)
    assert grid.in_patient
    for column, row, k in np.ndindex(4, 5, 6):
        lps = np.array(image.TransformIndexToPhysicalPoint([column, row, k]))
        np.testing.assert_allclose((grid.affine @ [row, column, k, 1])[:3] * [-1, -1, 1], lps, rtol=1e-5, atol=1e-8)


def test_an_odd_unit_is_millimetres(tmp_path):
    path = volume(tmp_path / "a.nii")
    with open(path, "r+b") as file:
        file.seek(123)
        file.write(bytes([7]))
    assert nifti_space(path) == NiftiSpace("mm", True)


def test_without_a_form_no_place_is_claimed(tmp_path):
    """ITK and nibabel make up different places for such a file: its left and right are not known."""
    path = volume(tmp_path / "a.nii", "micron", 0, 0)
    lps = np.array(itk.imread(path).TransformIndexToPhysicalPoint([1, 1, 1]))
    assert not np.allclose((nib.load(path).affine @ [1, 1, 1, 1])[:3] * [-1, -1, 1] / 1000, lps)
    assert nifti_space(path) == NiftiSpace("micron", False) and not nifti_grid(path).in_patient
    np.testing.assert_allclose(np.linalg.norm(nifti_grid(path).affine[:3, :3], axis=0), [0.002, 0.001, 0.003], rtol=1e-6)
    (source,), refused, _, _ = find_sources(tmp_path)
    assert (source.kind, source.spacing_mm, source.plane) == ("volume", (), "") and not refused
    assert len(find_cases(tmp_path).cases) == 1
