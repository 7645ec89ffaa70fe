"""Real DICOM files that are no series: projections, colour, single images, media, what is no image, what is odd or broken. ITK and pydicom are the truth."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from support.reading import adds_up, is_sentence, read, verdicts, write_good
from support.truth import by_itk

from monai_anomaly.data import find_cases
from monai_anomaly.data.cases import case_files
from monai_anomaly.errors import DataError

pytestmark = pytest.mark.real


# Projection, colour, single


@pytest.mark.parametrize(
    ("name", "range_"),
    [
        ("cr_fuji_mono1_chest.dcm", (44, 1023)),
        ("cr_fuji_mono1_chest_no_preamble", (44, 1023)),
        ("cr_fuji_mono1_rg3_j2k.dcm", None),
        ("cr_philips_mono1_rg1_j2k.dcm", None),
        ("dx_fujifilm_mono1_dog.dcm", None),
    ],
)
def test_projections_are_inverted_as_itk_does(dicom, name, range_):
    array, meta = read(str(dicom / "cr_dx" / name))
    assert meta["modality"] == ("DX" if name.startswith("dx") else "CR") and meta["value_range"] == () and meta["geometry"] == "none"
    np.testing.assert_array_equal(array, by_itk(dicom / "cr_dx" / name)[0])
    assert range_ is None or (array.min(), array.max()) == range_


def test_all_projections_are_found(dicom):
    found = find_cases(dicom / "cr_dx")
    assert found.found == len(found.cases) == 5 and not found.refused


COLOUR = {
    "SC_rgb.dcm": 0, "SC_rgb_gdcm2k_uncompressed.dcm": 0, "SC_rgb_jpeg_dcmtk.dcm": 3, "SC_rgb_jpeg_gdcm.dcm": 0, "SC_rgb_rle.dcm": 0, "SC_rgb_small_odd.dcm": 0,
    "SC_rgb_small_odd_big_endian.dcm": 0, "SC_rgb_small_odd_jpeg.dcm": 3, "us_ge_rgb.dcm": 0, "us_philips_palette.dcm": 0,
    "SC_ybr_full_uncompressed.dcm": 2, "SC_rgb_jls_lossy_line.dcm": 0, "SC_rgb_jls_lossy_sample.dcm": 0,
}  # fmt: skip
"""How far two right decoders may be apart: JPEG and YBR are rounded."""


@pytest.mark.parametrize("name", COLOUR)
def test_colour_is_rgb_as_in_itk(dicom, name):
    array, meta = read(str(dicom / "secondary_capture" / name))
    assert array.dtype == np.uint8 and array.shape[2:] == (1, 3) and meta["value_range"] == (0, 255) and meta["geometry"] == "none"
    truth, _ = by_itk(dicom / "secondary_capture" / name, None)
    assert np.abs(array.astype(int) - truth).max() <= COLOUR[name]


def test_one_picture_in_many_colour_spaces(dicom):
    plain = read(str(dicom / "secondary_capture/SC_rgb.dcm"))[0].astype(int)
    for name, tolerance in (("SC_rgb_rle", 0), ("SC_rgb_gdcm2k_uncompressed", 0), ("SC_ybr_full_uncompressed", 6), ("SC_rgb_jpeg_gdcm", 0)):
        assert np.abs(read(str(dicom / f"secondary_capture/{name}.dcm"))[0].astype(int) - plain).max() <= tolerance, name
    deep, meta = read(str(dicom / "secondary_capture/SC_rgb_16bit.dcm"))
    assert deep.dtype == np.uint16 and meta["value_range"] == (0, 65535)
    np.testing.assert_array_equal(deep, np.moveaxis(dcmread(dicom / "secondary_capture/SC_rgb_16bit.dcm").pixel_array[None], 0, 2))


def test_half_resolution_colour(dicom):
    """ITK does not double the chroma of this one; pydicom's own rule is the truth: each pair of pixels shares its chroma."""
    from pydicom.pixels import pixel_array

    path = dicom / "secondary_capture/SC_ybr_full_422_uncompressed.dcm"
    np.testing.assert_array_equal(read(str(path))[0][:, :, 0], pixel_array(path))


def test_a_capture_of_ct_has_no_hounsfield_units(dicom):
    array, meta = read(str(dicom / "secondary_capture/sc_ct_8bit_abdomen.dcm"))
    assert (meta["modality"], meta["units"], meta["value_range"], meta["geometry"]) == ("CT", "", (0, 255), "none")
    np.testing.assert_array_equal(array[..., 0], dcmread(dicom / "secondary_capture/sc_ct_8bit_abdomen.dcm").pixel_array)


def test_all_captures_are_found(dicom):
    found = find_cases(dicom / "secondary_capture")
    assert found.found == len(found.cases) == len(list((dicom / "secondary_capture").iterdir())) and not found.refused


def test_single_images(dicom):
    found = find_cases(dicom / "single")
    assert found.found == len(found.cases) == 3 and not found.refused
    by_modality = {meta["modality"]: (array, meta) for array, meta in (read(case["image"]) for case in found.cases)}
    ct, meta = by_modality["CT"]
    assert ct.shape == (128, 128, 1) and (ct.min(), ct.max()) == (-896, 1167) and meta["units"] == "HU"
    np.testing.assert_array_equal(ct, by_itk(dicom / "single/ct_ge_128.dcm")[0])
    pet, _ = by_modality["PT"]
    np.testing.assert_allclose(pet, by_itk(dicom / "single/pet_ge_jpeg_lossless.dcm")[0], rtol=1e-6)
    assert pet.min() == 0 and pet.max() == pytest.approx(7685, abs=1)
    mr, meta = by_modality["MR"]
    truth, affine = by_itk(dicom / "single/mr_ge_localizer.dcm")
    np.testing.assert_array_equal(mr, np.where(truth == 0, truth[truth != 0].min(), truth))  # PixelPaddingValue 0
    np.testing.assert_allclose(meta["affine"][:, :2], affine[:, :2], atol=1e-3)


# Media, what is no image, what is broken


def test_dicomdir_trees(dicom):
    found = find_cases(dicom / "dicomdir")
    assert adds_up(found) and found.found == 31 + 50
    modalities = Counter()
    for case in found.cases:
        (modality,) = {dcmread(name).Modality for name in case_files(case)}
        assert len({dcmread(name).SeriesInstanceUID for name in case_files(case)}) == 1
        array, _ = read(case["image"])
        modalities[modality] += array.shape[2]
    assert modalities == {"CR": 3, "MR": 17, "CT": 5}
    without = [refusal for refusal in found.refused if "no pixel data" in refusal.reason]
    assert len(without) == 50 and all("TINY_ALPHA" in refusal.where for refusal in without)
    rest = [refusal for refusal in found.refused if refusal not in without]
    assert sum(refusal.files for refusal in rest) == 6 and all(
        "localizer" in refusal.reason or "mm expected" in refusal.reason for refusal in rest
    )


@pytest.mark.parametrize("index", ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-empty.dcm", "DICOMDIR-nopatient"])
def test_a_dicomdir_stands_for_its_folder(dicom, index):
    assert find_cases(dicom / "dicomdir" / index).found == 81


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("parametric_map_float", "parametric map"), ("rtdose_15frames", "RTDOSE|radiotherapy"), ("rtplan", "RTPLAN|radiotherapy"),
        ("rtstruct", "RTSTRUCT|radiotherapy"), ("seg_cr_binary", "SEG|segmentation"), ("seg_ct_binary_3frames", "SEG|segmentation"),
        ("seg_liver_1frame", "SEG|segmentation"), ("seg_of_ct_ge_128", "SEG|segmentation"), ("sm_tiled_25frames", "SM|whole-slide"),
        ("sr_basic_text", "SR|report"), ("sr_comprehensive", "SR|report"),
    ],
)  # fmt: skip
def test_what_is_no_image(dicom, tmp_path, name, words):
    shutil.copy(dicom / f"not_images/{name}.dcm", write_good(tmp_path))
    arrays, (reason,) = verdicts(tmp_path)
    assert not arrays and is_sentence(reason) and any(word in reason for word in words.split("|"))


def test_no_image_is_left_of_what_is_none(dicom):
    with pytest.raises(DataError, match=f"{len(list((dicom / 'not_images').iterdir()))} files found; the first of 11 refused"):
        find_cases(dicom / "not_images")


@pytest.mark.parametrize(
    "name",
    [
        "odd/mr_truncated_pixels.dcm", "odd/no_rows.dcm", "odd/nm_j2k_embedded_delimiter.dcm", "odd/rtdose_bad_vr_in_frames.dcm", "odd/no_meta.dcm",
        "odd/no_meta_group_length.dcm", "odd/meta_missing_transfer_syntax.dcm", "odd/explicit_little_no_meta.dcm", "odd/explicit_big_no_meta.dcm",
        "odd/un_sequence.dcm", "odd/empty_charset.dcm", "transfer_syntax/enhanced_mr_small/emri_small_jpeg_2k_lossless_too_short.dcm",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_files_end_in_a_sentence(dicom, tmp_path, name):
    shutil.copy(dicom / name, write_good(tmp_path))
    arrays, (reason,) = verdicts(tmp_path)
    assert not arrays and is_sentence(reason)


@pytest.mark.parametrize(
    ("name", "range_"),
    [
        ("ct1_rle_several_fragments", (-3024, 1254)),
        ("ct_693_j2k_lossless_bits_mismatch", (-3024, 1468)),
        ("ct_explicit_vr_un_j2k", None),
        ("ct_siemens_bad_sequence", None),
        ("mr_philips_no_preamble", None),
        ("mr_siemens_empty_slice_thickness", None),
        ("mr_siemens_decimal_rescale", (-4096, -4096)),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_but_readable(dicom, name, range_):
    """ITK's values; where the header names padding (-2000, that is -3024 HU) it takes the smallest real value."""
    path = dicom / f"odd/{name}.dcm"
    truth, affine = by_itk(path)
    assert range_ is None or (truth.min(), truth.max()) == range_
    array, meta = read(str(path))
    padding = truth == -3024
    np.testing.assert_array_equal(array, np.where(padding, truth[~padding].min(), truth))
    assert meta["geometry"] == "none" or np.allclose(meta["affine"][:, :2], affine[:, :2], atol=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_big_endian_colour(dicom):
    path = dicom / "odd/us_explicit_big_endian.dcm"
    np.testing.assert_array_equal(read(str(path))[0][:, :, 0], dcmread(path).pixel_array)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_names_in_many_character_sets(dicom, caplog):
    caplog.set_level("DEBUG", "monai_anomaly")
    found = find_cases(dicom / "odd/charset")
    with_pixels = {path.name for path in (dicom / "odd/charset").iterdir() if "PixelData" in dcmread(path)}
    assert adds_up(found) and {Path(case_files(case)[0]).name for case in found.cases} == with_pixels
    assert {refusal.where for refusal in found.refused} == {path.name for path in (dicom / "odd/charset").iterdir()} - with_pixels
    assert all(read(case["image"])[0].shape == (32, 32, 1) for case in found.cases)
    for path in (dicom / "odd/charset").iterdir():
        for part in str(dcmread(path).get("PatientName", "")).replace("=", "^").split("^"):
            assert len(part) < 3 or part not in caplog.text + str(found), path.name


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_everything_at_once(dicom):
    """One folder with all of it: the counts add up, nothing is mixed, and every case is read or says why not."""
    found = find_cases(dicom)
    side = [path for path in dicom.rglob("*") if path.name.startswith(("DICOMDIR", "README"))]
    assert adds_up(found) and found.found == len([path for path in dicom.rglob("*") if path.is_file()]) - len(side)
    assert all(is_sentence(refusal.reason) for refusal in found.refused)
    for case in found.cases:
        headers = [dcmread(name, stop_before_pixels=True, force=True) for name in case_files(case)]
        assert len({header.get("SeriesInstanceUID") for header in headers}) == len({header.get("Modality") for header in headers}) == 1
