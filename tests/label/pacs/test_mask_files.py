"""What viewers send, on the grid of its image."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

import SimpleITK

from monai_anomaly.errors import DataError
from monai_anomaly.label.pacs.mask_files import read_mask


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, dtype=np.uint8) -> Path:
    """(row, column, slice) as it is, with its affine."""
    nib.save(nib.Nifti1Image(array.astype(dtype), affine), path)
    return path


def test_nifti_in_any_order_of_its_axes(tmp_path, series_grid, random_mask):
    for k, orientation in enumerate(("LPS", "RAS", "SAL", "PIR")):
        image = nib.Nifti1Image(random_mask.astype(np.uint8), series_grid.affine)
        start = nib.orientations.io_orientation(series_grid.affine)
        turned = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(orientation)))
        nib.save(turned, tmp_path / f"{k}.nii.gz")
        assert np.array_equal(read_mask(tmp_path / f"{k}.nii.gz", series_grid.affine, series_grid.shape), random_mask)


@pytest.mark.parametrize("label", [1, 2])
def test_nrrd_as_itk_writes_it(tmp_path, series_grid, random_mask, label):
    image = SimpleITK.GetImageFromArray(label * random_mask.transpose(2, 0, 1).astype(np.uint8))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series_grid.affine[:, [1, 0, 2, 3]]
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(tmp_path / "mask.nrrd"))
    assert np.array_equal(read_mask(tmp_path / "mask.nrrd", series_grid.affine, series_grid.shape), random_mask)


def test_bare_bytes_are_in_the_voxel_order_of_the_image(tmp_path, series_grid, random_mask):
    """OHIF's: columns fastest, then rows, then slices."""
    (tmp_path / "mask.bin").write_bytes(random_mask.transpose(2, 0, 1).astype(np.uint8).tobytes())
    assert np.array_equal(read_mask(tmp_path / "mask.bin", series_grid.affine, series_grid.shape), random_mask)


def test_another_grid_or_file_is_refused(tmp_path, series_grid, random_mask):
    moved = series_grid.affine.copy()
    moved[:3, 3] += 0.1
    write_nifti(tmp_path / "moved.nii.gz", random_mask, moved)
    write_nifti(tmp_path / "cut.nii.gz", random_mask[:-1], series_grid.affine)
    (tmp_path / "broken.nii.gz").write_bytes((tmp_path / "cut.nii.gz").read_bytes()[:200])
    (tmp_path / "broken.nrrd").write_bytes(b"NRRD0004\n")
    (tmp_path / "short.bin").write_bytes(b"1")
    layers = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(random_mask.astype(np.uint8))] * 2)
    SimpleITK.WriteImage(layers, str(tmp_path / "layers.seg.nrrd"))
    expected = {
        "moved.nii.gz": "voxels beside", "cut.nii.gz": "same grid", "broken.nii.gz": "NIfTI", "broken.nrrd": "NRRD mask cannot be read",
        "short.bin": "one byte for each", "layers.seg.nrrd": "several layers", "mask.stl": "no file that is known",
    }  # fmt: skip
    for name, words in expected.items():
        with pytest.raises(DataError, match=words):
            read_mask(tmp_path / name, series_grid.affine, series_grid.shape)
