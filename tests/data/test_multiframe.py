"""Made-up multi-frame files and pictures: frames in shuffled order, several stacks in a file, B-scans, cine, inverted, palette and padded pixels."""

from __future__ import annotations

import numpy as np
import pydicom.uid as sop
import pytest
from pydicom import dcmread
from support.dicom import OBLIQUE, SAGITTAL, hu_at, make_picture, make_series
from support.dicom_frames import make_enhanced, make_oct
from support.reading import adds_up, is_sentence, read, verdicts, world, write_good

from monai_anomaly.data import find_cases

GREY = np.random.default_rng(0).integers(0, 256, (14, 10), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (14, 10, 3), dtype=np.uint8)
CR = sop.ComputedRadiographyImageStorage


def only(folder) -> tuple[np.ndarray, dict]:
    """The one case of a folder, read."""
    found = find_cases(folder)
    assert adds_up(found) and not found.refused
    (case,) = found.cases
    return read(case["image"])


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), SAGITTAL, OBLIQUE])
def test_frames_in_any_order_make_a_volume(tmp_path, modality, orientation):
    make_enhanced(tmp_path / "a", modality=modality, orientation=orientation)
    assert [group.FrameContentSequence[0].InStackPositionNumber for group in dcmread(tmp_path / "a").PerFrameFunctionalGroupsSequence] != [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    array, meta = only(tmp_path)
    assert array.shape == (12, 9, 6) and meta["modality"] == modality and meta["geometry"] == "patient"
    assert meta["units"] == ("HU" if modality == "CT" else "")
    assert np.abs(array - hu_at(world(meta["affine"], array.shape))).max() <= 0.51  # stored as whole numbers
    np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), [0.5, 0.8, 2.5], atol=1e-5)


def test_an_enhanced_file_equals_the_series_of_its_slices(tmp_path):
    make_enhanced(tmp_path / "enhanced/a", slopes=[1.0])
    make_series(tmp_path / "series", n=6)
    volume, meta = only(tmp_path / "enhanced")
    stack, again = only(tmp_path / "series")
    np.testing.assert_array_equal(volume, stack)
    np.testing.assert_allclose(meta["affine"], again["affine"], atol=1e-6)


@pytest.mark.parametrize("mark", ["TemporalPositionIndex", "FrameAcquisitionNumber", ""])
def test_several_stacks_in_one_file_are_never_one_volume(tmp_path, mark):
    """A case names files, and frames of a file cannot be named: so it is refused, with the number of stacks where that is known."""
    make_enhanced(write_good(tmp_path) / "a", modality="MR", stacks=3, n=4, mark=mark)
    arrays, reasons = verdicts(tmp_path)
    assert not arrays and len(reasons) == 1 and is_sentence(reasons[0])
    assert ("3 stacks of 4 frames" if mark else "12 slices lie at only 4 positions") in reasons[0]


def test_a_missing_frame(tmp_path):
    def drop(dataset, _):
        dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = [-10, 20, 90]

    make_enhanced(write_good(tmp_path) / "a", change=drop)
    _, reasons = verdicts(tmp_path)
    assert "mm expected" in reasons[0] and "frame 3" in reasons[0]


def test_frames_without_a_place(tmp_path):
    make_enhanced(
        write_good(tmp_path) / "a", change=lambda dataset, _: delattr(dataset.PerFrameFunctionalGroupsSequence[1], "PlanePositionSequence")
    )
    _, reasons = verdicts(tmp_path)
    assert "Frame 2 has no plane position" in reasons[0]


def test_a_time_series_of_enhanced_files_is_one_volume_each(tmp_path):
    for time in range(3):
        make_enhanced(tmp_path / f"{time}.dcm", modality="MR", uid="1.2.826.0.1.3680043.10.2")
    found = find_cases(tmp_path)
    assert adds_up(found) and len(found.cases) == 3 and len({case["series"] for case in found.cases}) == 3
    assert {read(case["image"])[0].shape for case in found.cases} == {(12, 9, 6)}


def test_ophthalmic_tomography(tmp_path):
    scans = np.random.default_rng(0).integers(0, 256, (7, 20, 30), dtype=np.uint8)
    make_oct(tmp_path / "oct", scans)
    array, meta = only(tmp_path)
    assert meta["modality"] == "OPT" and meta["geometry"] == "patient" and array.shape == (20, 30, 7)
    np.testing.assert_allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), [0.004, 0.011, 0.12], atol=1e-9)
    # B-scan k lies 0.12 k mm along y: in DICOM's axes to the back, in those of NIfTI to the front
    np.testing.assert_array_equal(array, np.moveaxis(scans, 0, 2))
    np.testing.assert_allclose(meta["affine"] @ [0, 0, 3, 1], [0, -0.36, 0, 1], atol=1e-9)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_frames_of_a_cine_are_time(tmp_path, photometric):
    frames = np.stack([COLOUR, COLOUR[::-1], COLOUR[:, ::-1]])
    make_picture(
        tmp_path / "a", frames, modality="US", sop_class=sop.UltrasoundMultiFrameImageStorage, photometric=photometric, frame_time_ms=33.3
    )
    array, meta = only(tmp_path)
    assert array.shape == (14, 10, 3, 3) and meta["geometry"] == "none" and meta["value_range"] == (0, 255) and meta["modality"] == "US"
    np.testing.assert_array_equal(meta["affine"], np.eye(4))
    assert np.abs(array.astype(int) - np.moveaxis(frames, 0, 2)).max() <= (0 if photometric == "RGB" else 2)  # YBR rounds


def test_a_grey_cine(tmp_path):
    frames = np.stack([GREY, GREY[::-1]])
    make_picture(tmp_path / "a", frames, modality="US", sop_class=sop.UltrasoundMultiFrameImageStorage, frame_time_ms=33.3)
    array, meta = only(tmp_path)
    np.testing.assert_array_equal(array, np.moveaxis(frames, 0, 2))
    assert meta["geometry"] == "none" and meta["value_range"] == (0, 255)


@pytest.mark.parametrize(("modality", "sop_class", "bits"), [("CR", CR, 10), ("DX", sop.DigitalXRayImageStorageForPresentation, 12)])
def test_monochrome1_is_turned_round(tmp_path, modality, sop_class, bits):
    stored = GREY.astype(np.uint16)
    make_picture(tmp_path / "a", stored, modality=modality, sop_class=sop_class, photometric="MONOCHROME1", bits=bits)
    array, meta = only(tmp_path)
    np.testing.assert_array_equal(array[..., 0], 2**bits - 1 - stored.astype(int))
    assert meta["modality"] == modality and meta["value_range"] == () and meta["geometry"] == "none"


def test_signed_monochrome1_is_turned_round(tmp_path):
    make_picture(tmp_path / "a", GREY.astype(np.int16) - 100, modality="CR", sop_class=CR, photometric="MONOCHROME1")
    np.testing.assert_array_equal(only(tmp_path)[0][..., 0], -1 - (GREY.astype(int) - 100))


@pytest.mark.parametrize("pixels", [GREY, COLOUR, GREY.astype(np.uint16) * 200])
def test_secondary_capture(tmp_path, pixels):
    make_picture(tmp_path / "a", pixels)
    array, meta = only(tmp_path)
    np.testing.assert_array_equal(array[:, :, 0], pixels)
    assert meta["value_range"] == (0, 255 if pixels.dtype == np.uint8 else 65535) and meta["geometry"] == "none"


def test_a_capture_of_ct_is_a_picture_without_hounsfield_units(tmp_path):
    make_picture(tmp_path / "a", GREY, modality="CT")
    array, meta = only(tmp_path)
    np.testing.assert_array_equal(array[..., 0], GREY)
    assert meta["modality"] == "CT" and meta["units"] == "" and meta["value_range"] == (0, 255)


def test_palette_becomes_rgb(tmp_path):
    palette = np.random.default_rng(2).integers(0, 256, (256, 3))
    make_picture(tmp_path / "a", GREY, palette=palette, modality="US", sop_class=sop.UltrasoundImageStorage)
    array, meta = only(tmp_path)
    expected = palette[GREY]
    scale = (meta["value_range"][1] + 1) // 256
    np.testing.assert_array_equal(array[:, :, 0] // scale, expected)


def test_padding_takes_the_smallest_real_value(tmp_path):
    pixels = np.full((12, 9, 3), 50.0)
    pixels[2:, 2:, :], pixels[5, 5, :] = 30.0, -80.0
    pixels[:2, :, :2] = -2000  # no padding in the last slice
    make_series(tmp_path, n=3, pixels=pixels, change=lambda dataset, k: setattr(dataset, "PixelPaddingValue", -976))
    array, meta = only(tmp_path)
    expected = np.where(pixels == -2000, -80.0, pixels)
    np.testing.assert_array_equal(array, expected)
    assert meta["padding_pixels"] == 2 * 18


def test_a_range_of_padding_values(tmp_path):
    pixels = np.full((12, 9, 2), 50.0)
    pixels[0], pixels[1], pixels[2] = -2000, -1900, 10

    def change(dataset, k):
        dataset.PixelPaddingValue, dataset.PixelPaddingRangeLimit = -976, -876

    make_series(tmp_path, n=2, pixels=pixels, change=change)
    np.testing.assert_array_equal(only(tmp_path)[0], np.where(pixels < -1000, 10, pixels))


def test_padding_of_signed_pixels_written_as_unsigned(tmp_path):
    """The padding value of a GE scanner: -2000 stands in the header as 63536."""
    pixels = np.full((12, 9, 2), 50.0)
    pixels[0], pixels[1] = -3024, 10
    make_series(tmp_path, n=2, pixels=pixels, change=lambda dataset, k: dataset.add_new("PixelPaddingValue", "US", 63536))
    array, meta = only(tmp_path)
    np.testing.assert_array_equal(array, np.where(pixels == -3024, 10, pixels))
    assert meta["padding_pixels"] == 18


@pytest.mark.parametrize("syntax", [sop.RLELossless, sop.JPEGLSLossless, sop.DeflatedExplicitVRLittleEndian, sop.ImplicitVRLittleEndian])
def test_slices_in_other_encodings_are_the_same(tmp_path, syntax):
    def encode(dataset, k):
        if syntax.is_encapsulated:
            dataset.compress(syntax)
        dataset.file_meta.TransferSyntaxUID = syntax

    make_series(tmp_path / "plain", n=4)
    make_series(tmp_path / "packed", n=4, change=encode)
    plain, meta = only(tmp_path / "plain")
    packed, again = only(tmp_path / "packed")
    np.testing.assert_array_equal(packed, plain)
    np.testing.assert_array_equal(meta["affine"], again["affine"])
