"""The map volume lies where the series lies, by ITK's reading of both."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.writers import write_map_volume

ROWS, COLUMNS, SLICES = 14, 20, 6
MARK = (3, 15, 4)  # row, column, slice


def write_series(folder: Path, rotation: Rotation) -> tuple[list[str], np.ndarray]:
    """An oblique CT series with one bright voxel; returns its files and the RAS affine of (row, column, slice), from the DICOM standard's equation."""
    along_row, along_column, normal = rotation.as_matrix().T  # direction of growing column index, of growing row index, of slices
    row_spacing, column_spacing, step = 1.5, 0.7, 2.5
    origin = np.array([-30.0, 12.0, 55.0])
    files = []
    series, study, frame = generate_uid(entropy_srcs=["s"]), generate_uid(entropy_srcs=["t"]), generate_uid(entropy_srcs=["f"])
    for k in range(SLICES):
        pixels = np.zeros((ROWS, COLUMNS), dtype=np.int16)
        if k == MARK[2]:
            pixels[MARK[:2]] = 1000
        header = FileMetaDataset()
        header.MediaStorageSOPClassUID = CTImageStorage
        header.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["i", str(k)])
        header.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = pydicom.Dataset()
        dataset.file_meta = header
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, header.MediaStorageSOPInstanceUID
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = series, study, frame
        dataset.Modality, dataset.PatientID, dataset.InstanceNumber = "CT", "made up", k + 1
        dataset.Rows, dataset.Columns = ROWS, COLUMNS
        dataset.PixelSpacing = [row_spacing, column_spacing]
        dataset.ImageOrientationPatient = [f"{x:.12f}"[:16] for x in (*along_row, *along_column)]
        dataset.ImagePositionPatient = [f"{x:.12f}"[:16] for x in origin + k * step * normal]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = pixels.tobytes()
        files.append(str(folder / f"{k}.dcm"))
        dataset.save_as(files[-1], enforce_file_format=True)
    lps = np.eye(4)
    lps[:3] = np.stack([along_column * row_spacing, along_row * column_spacing, normal * step, origin], axis=1)
    return files, np.diag([-1.0, -1, 1, 1]) @ lps


def marked_point(image: itk.Image) -> tuple[np.ndarray, list[int]]:
    """World position (LPS) of the highest voxel, and the image's size (column, row, slice)."""
    index = np.unravel_index(np.argmax(itk.array_view_from_image(image)), itk.array_view_from_image(image).shape)
    return np.array(image.TransformIndexToPhysicalPoint([int(i) for i in reversed(index)])), list(itk.size(image))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 90), (20, -35, 50)], ids=["axial", "sagittal", "oblique"])
def test_marked_voxel_is_at_the_same_place_for_itk(tmp_path: Path, angles: tuple[int, int, int], ending: str) -> None:
    files, affine = write_series(tmp_path, Rotation.from_euler("xyz", angles, degrees=True))
    maps = torch.zeros(SLICES, ROWS, COLUMNS)
    maps[MARK[2], MARK[0], MARK[1]] = 1
    path = write_map_volume(tmp_path / f"map{ending}", maps, affine, (ROWS, COLUMNS, SLICES))
    expected, size = marked_point(itk.imread(files))
    found, map_size = marked_point(itk.imread(str(path)))
    assert map_size == size == [COLUMNS, ROWS, SLICES]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_nibabel_reads_the_same_geometry_and_type(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0.7, 0, 1], [1.5, 0, 0, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])
    maps = np.random.default_rng(0).random((SLICES, ROWS, COLUMNS))
    image = nib.load(write_map_volume(tmp_path / "map.nii.gz", maps, affine, (ROWS, COLUMNS)))
    assert image.get_data_dtype() == np.float32 and image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), maps.astype(np.float32).transpose(2, 1, 0))
    for matrix in (image.affine, image.get_sform(coded=True)[0], image.get_qform(coded=True)[0]):
        np.testing.assert_allclose(matrix @ [MARK[1], MARK[0], MARK[2], 1], affine @ [*MARK, 1], atol=1e-4)


def test_network_resolution_goes_back_with_pixel_centres(tmp_path: Path) -> None:
    """A map that is linear in the image plane comes back linear, at the right place, whatever the two resolutions."""
    small = (np.arange(32) + 0.5) / 32
    maps = np.broadcast_to(2 * small[:, None] + small[None], (2, 32, 32))
    for rows, columns in ((50, 77), (20, 12), (32, 32)):
        volume = nib.load(write_map_volume(tmp_path / "m.nii", maps, np.eye(4), (rows, columns, 2))).get_fdata()
        expected = ((np.arange(columns) + 0.5) / columns)[:, None] + 2 * ((np.arange(rows) + 0.5) / rows)[None]
        inner = (slice(4, -4), slice(4, -4))
        np.testing.assert_allclose(volume[..., 1][inner], expected[inner], atol=0.01)


def test_slices_without_a_score_stay_nan_and_alone(tmp_path: Path) -> None:
    maps = np.ones((3, 8, 8), dtype=np.float32)
    maps[1] = np.nan
    volume = nib.load(write_map_volume(tmp_path / "m.nii.gz", maps, np.eye(4), (16, 16, 3))).get_fdata()
    assert np.isnan(volume[..., 1]).all() and (volume[..., [0, 2]] == 1).all()


def test_same_maps_same_bytes(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 8, 8))
    a, b = (write_map_volume(tmp_path / name, maps, np.eye(4), (8, 8)).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert a == b


def test_a_sheared_grid_keeps_its_sform_only(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.4
    image = nib.load(write_map_volume(tmp_path / "m.nii", np.zeros((2, 8, 8)), affine, (8, 8)))
    assert image.header["qform_code"] == 0 and image.header["sform_code"] == 1
    np.testing.assert_allclose(image.affine, affine[:, [1, 0, 2, 3]])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    maps = np.zeros((3, 8, 8))
    for shape in ((8, 8, 4), (8,), (0, 8)):
        with pytest.raises(DataError, match="expected \\(S, h, w\\)"):
            write_map_volume(tmp_path / "m.nii", maps, np.eye(4), shape)
    for affine in (np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)):
        with pytest.raises(DataError, match="invertible"):
            write_map_volume(tmp_path / "m.nii", maps, affine, (8, 8))
    with pytest.raises(OptionError, match=r"ends in \.nii"):
        write_map_volume(tmp_path / "m.mha", maps, np.eye(4), (8, 8))
    assert not list(tmp_path.iterdir())
