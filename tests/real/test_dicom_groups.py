"""Every group of real DICOM files: ITK, pydicom, highdicom and dcm2niix's NIfTI are the truth."""

from __future__ import annotations

import shutil

import highdicom
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from support.reading import adds_up, read
from support.truth import TO_RAS, by_itk, directions

from monai_anomaly.data import find_cases
from monai_anomaly.data.cases import case_files
from monai_anomaly.errors import DataError

pytestmark = pytest.mark.real


def assert_like_itk(files) -> None:
    """Values and affine."""
    array, meta = read(files)
    truth, affine = by_itk(files)
    np.testing.assert_array_equal(array, truth)
    np.testing.assert_allclose(meta["affine"], affine, atol=0.01)


# Series


@pytest.mark.parametrize(
    ("folder", "shape", "spacing", "range_", "columns", "origin", "units"),
    [
        ("ct_siemens_j2k", (512, 512, 20), (0.977, 0.977, 2.0), (-1024, 1839), np.eye(3), (-249.5, -437.5, -804.5), "HU"),
        ("ct_ge_rotated", (128, 88, 17), (2, 2, 2), None, np.diag([-1, -1, 1]), (82.2, 122.2, -24.7), "HU"),
        ("mr_siemens_patient_position/HFS", (256, 256, 3), (1.016, 1.016, 4.8), None, [[0, 0, -1], [1, 0, 0], [0, -1, 0]], None, ""),
        ("mr_siemens_patient_position/HFP", (256, 256, 3), (1.016, 1.016, 4.8), None, [[0, 0, -1], [1, 0, 0], [0, -1, 0]], None, ""),
        ("mr_siemens_patient_position/HFDL", (256, 256, 3), (1.016, 1.016, 4.8), None, [[0, 0, -1], [1, 0, 0], [0, -1, 0]], None, ""),
    ],
)
def test_series(dicom, folder, shape, spacing, range_, columns, origin, units):
    found = find_cases(dicom / folder)
    (case,) = found.cases
    assert adds_up(found) and not found.refused and found.found == shape[2]
    array, meta = read(case["image"])
    assert array.shape == shape and meta["units"] == units and meta["geometry"] == "patient" and meta["value_range"] == ()
    np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), spacing, atol=0.001)
    np.testing.assert_allclose(directions(meta["affine"]), columns, atol=0.08)  # HFS ... are a few degrees off the axes
    if origin:
        np.testing.assert_allclose((TO_RAS @ meta["affine"])[:3, 3], origin, atol=0.06)
    if range_:
        assert (array.min(), array.max()) == range_
    assert_like_itk(case["image"])


def test_three_positions_on_the_table_are_three_series_of_one_geometry(dicom):
    found = find_cases(dicom / "mr_siemens_patient_position")
    assert len(found.cases) == 3 and not found.refused
    affines = [read(case["image"])[1]["affine"] for case in found.cases]
    np.testing.assert_allclose(affines[0], affines[1], atol=0.01)
    np.testing.assert_allclose(affines[0], affines[2], atol=0.01)


@pytest.mark.parametrize(
    ("name", "column", "smallest"), [("tilt_minus22_j2k", (0, 0.927, -0.375), -2000), ("tilt_plus5p5_ge", (0, 0.995, -0.096), -998)]
)
def test_tilted_gantry(dicom, name, column, smallest):
    found = find_cases(dicom / "ct_gantry_tilt")
    assert len(found.cases) == 2 and not found.refused
    (case,) = [case for case in found.cases if name in case_files(case)[0]]
    array, meta = read(case["image"])
    np.testing.assert_allclose(directions(meta["affine"])[:, 1], column, atol=0.001)
    truth, affine = by_itk(case_files(case)[0])
    np.testing.assert_allclose(meta["affine"][:, :2], affine[:, :2], atol=0.001)
    np.testing.assert_array_equal(array[truth >= -1024], truth[truth >= -1024])
    assert array.min() == smallest, "padding of -2000, written as 63536 in the header of the GE slice, is no Hounsfield unit"


def test_two_time_points_without_a_mark_are_refused(dicom):
    with pytest.raises(DataError, match="30 slices lie at only 15 positions"):
        find_cases(dicom / "mr_ge_epi_4d")


def test_each_time_point_alone_is_a_volume(dicom, tmp_path):
    """Without a mark the files must be told apart by hand; here by their numbers."""
    for path in (dicom / "mr_ge_epi_4d").iterdir():
        if dcmread(path, stop_before_pixels=True).InstanceNumber <= 15:
            shutil.copy(path, tmp_path)
    (case,) = find_cases(tmp_path).cases
    array, meta = read(case["image"])
    assert array.shape[2] == 15
    np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, 2]), 5.0, atol=0.01)
    assert_like_itk(case["image"])


# Mosaics


def test_mosaics_are_volumes_one_for_each_time_point(dicom):
    found = find_cases(dicom / "mr_siemens_mosaic")
    assert len(found.cases) == 2 and not found.refused and len({case["series"] for case in found.cases}) == 2
    for case in found.cases:
        array, meta = read(case["image"])
        dataset = dcmread(case["image"])
        tiles = [dataset.pixel_array[72 * (k // 3) :, 72 * (k % 3) :][:72, :72] for k in range(5)]
        np.testing.assert_array_equal(array, np.stack(tiles, axis=-1))
        assert not dataset.pixel_array[144:, 144:].any() and meta["geometry"] == "patient"
        np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), [3, 3, dataset.SpacingBetweenSlices], atol=1e-3)
        # the first slice lies in the middle of the field of view that the tiled picture pretends to have
        row, column = np.array(dataset.ImageOrientationPatient[:3]), np.array(dataset.ImageOrientationPatient[3:])
        first = np.array(dataset.ImagePositionPatient) + (216 - 72) / 2 * 3 * (row + column)
        np.testing.assert_allclose((TO_RAS @ meta["affine"])[:3, 3], first, atol=1e-3)


def test_a_mosaic_lies_where_dcm2niix_puts_it(dicom, shared):
    """``fmri_pitch`` is another volume of the same scan, converted by somebody else."""
    array, meta = read(str(dicom / "transfer_syntax/mr_siemens_9/1.dcm"))
    other = nib.load(shared / "data/nifti/geometry/fmri_pitch.nii.gz")
    turn = np.array([[0.0, -1, 0, 63], [-1, 0, 0, 63], [0, 0, 1, 0], [0, 0, 0, 1]])  # rows and columns the other way round and exchanged
    np.testing.assert_allclose(meta["affine"], other.affine @ turn, atol=0.01)
    theirs = np.asarray(other.dataobj)[::-1, ::-1].transpose(1, 0, 2)
    assert np.corrcoef(array.ravel(), theirs.ravel())[0, 1] > 0.98  # one voxel off it is at most 0.955


# Enhanced and multi-frame


@pytest.mark.parametrize(
    ("name", "shape", "spacing", "range_"),
    [
        ("enhanced/ct_perfusion_sample.dcm", (512, 512, 2), (0.389, 0.389, 10), (-1024, 172)),
        ("enhanced/mr_bruker_4frames.dcm", (128, 256, 4), (0.2, 0.1, 1), None),
        *((f"enhanced/mr_siemens_xa10/6_{k}.dcm", (64, 64, 6), (3.375, 3.375, 2.4), None) for k in (1, 2, 3, 4)),
    ],
)
def test_enhanced_like_highdicom(dicom, name, shape, spacing, range_):
    array, meta = read(str(dicom / name))
    assert array.shape == shape and meta["geometry"] == "patient" and (range_ is None or (array.min(), array.max()) == range_)
    np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), spacing, atol=1e-3)
    volume = highdicom.imread(dicom / name).get_volume(apply_real_world_transform=False)  # axes: slice, row, column
    truth, affine = np.moveaxis(volume.array, 0, 2), TO_RAS @ volume.affine[:, [1, 2, 0, 3]]
    if np.dot(affine[:3, 2], meta["affine"][:3, 2]) < 0:  # the other end first
        truth, affine = truth[:, :, ::-1], affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, shape[2] - 1], [0, 0, 0, 1]])
    np.testing.assert_allclose(array, truth, atol=1e-3)
    np.testing.assert_allclose(meta["affine"], affine, atol=1e-3)


def test_a_mirrored_first_direction(dicom):
    _, meta = read(str(dicom / "enhanced/ct_perfusion_sample.dcm"))
    np.testing.assert_allclose(directions(meta["affine"])[:, 0], [-1, 0, 0], atol=1e-3)


def test_four_time_points_are_four_volumes(dicom):
    found = find_cases(dicom / "enhanced/mr_siemens_xa10")
    assert (
        len(found.cases) == 4 and len({case["series"] for case in found.cases}) == 4 and len({case["patient"] for case in found.cases}) == 1
    )
    arrays = [read(case["image"])[0] for case in found.cases]
    assert {array.shape for array in arrays} == {(64, 64, 6)} and not np.array_equal(arrays[0], arrays[1])


def test_a_cine_is_time(dicom):
    path = dicom / "multiframe/us_sonosite_30frames_jpeg.dcm"
    array, meta = read(str(path))
    assert array.shape == (240, 320, 30, 3) and meta["geometry"] == "none" and meta["modality"] == "US" and meta["value_range"] == (0, 255)
    np.testing.assert_array_equal(meta["affine"], np.eye(4))
    truth, _ = by_itk(path, None)
    assert np.abs(array.astype(int) - truth).max() <= 3  # two JPEG decoders


def test_a_palette_cine_is_rgb(dicom):
    path = dicom / "multiframe/us_philips_palette_rle_2frames.dcm"
    array, meta = read(str(path))
    assert array.shape == (600, 800, 2, 3) and meta["geometry"] == "none"
    np.testing.assert_array_equal(array, by_itk(path, None)[0])


def test_a_frame_time_is_no_distance(dicom):
    array, meta = read(str(dicom / "multiframe/mr_philips_16frames.dcm"))
    assert array.shape == (256, 256, 16) and meta["geometry"] == "none"
    np.testing.assert_array_equal(meta["affine"], np.eye(4))  # ITK reports 69.47, which is FrameTime
    np.testing.assert_array_equal(array, np.moveaxis(dcmread(dicom / "multiframe/mr_philips_16frames.dcm").pixel_array, 0, 2))
