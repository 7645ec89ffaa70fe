"""One image in many transfer syntaxes: the same pixels, the same geometry and the same scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from support.reading import adds_up, read
from support.scoring import slice_scores
from support.truth import by_itk

from monai_anomaly.data import find_cases
from monai_anomaly.errors import DataError

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::UserWarning")]

MR = ("MR_small", *(f"MR_small_{name}" for name in ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded")))
ENHANCED = ("emri_small", "emri_small_RLE", "emri_small_big_endian", "emri_small_jpeg_2k_lossless", "emri_small_jpeg_ls_lossless")
SAME = {
    "mr_siemens_9": ([f"mr_siemens_9/{k}.dcm" for k in range(1, 10)], (64, 64, 35), (0, 2362)),
    "mr_small": ([f"mr_small/{name}.dcm" for name in MR], (64, 64, 1), (127, 2145)),
    "enhanced_mr_small": ([f"enhanced_mr_small/{name}.dcm" for name in ENHANCED], (64, 64, 10), (0, 467)),
    "nm1": ([f"nm1/NM1_{name}" for name in ("J2KR", "JLSL", "RLE", "JPLL")], (1024, 256, 1), (0, 278)),
    "us1": ([f"us1/US1_{name}" for name in ("RLE", "J2KR")], (480, 640, 1, 3), None),
}


@pytest.fixture(scope="session")
def syntaxes(dicom) -> Path:
    return dicom / "transfer_syntax"


@pytest.mark.parametrize("name", SAME)
def test_pixels_are_identical(syntaxes, name):
    files, shape, range_ = SAME[name]
    assert len({dcmread(syntaxes / file).file_meta.TransferSyntaxUID for file in files}) >= min(len(files), 2)
    first, meta = read(str(syntaxes / files[0]))
    assert first.shape == shape and (range_ is None or (first.min(), first.max()) == range_)
    for file in files[1:]:
        array, again = read(str(syntaxes / file))
        np.testing.assert_array_equal(array, first, err_msg=file)
        np.testing.assert_array_equal(again["affine"], meta["affine"])
        assert {key: again[key] for key in ("modality", "units", "value_range", "geometry")} == {
            key: meta[key] for key in ("modality", "units", "value_range", "geometry")
        }


@pytest.mark.parametrize("name", SAME)
def test_scores_are_identical(syntaxes, name):
    files, shape, _ = SAME[name]
    first, *others = slice_scores([str(syntaxes / file) for file in files], every=max(1, shape[2] // 4))
    assert torch.isfinite(first).all() and (len(first) < 2 or first.std() > 0)
    for file, scores in zip(files[1:], others, strict=True):
        assert torch.equal(scores, first), file


def test_the_mosaic_is_one_series_of_nine_copies(syntaxes):
    found = find_cases(syntaxes / "mr_siemens_9")
    assert found.found == 9 and adds_up(found) and len({case["series"] for case in found.cases}) == len(found.cases) == 9


def test_eight_copies_of_a_slice_are_no_stack(syntaxes):
    with pytest.raises(DataError, match="8 slices lie at one position"):
        find_cases(syntaxes / "mr_small")


@pytest.mark.parametrize(
    ("name", "other", "within"), [("JLSN", "J2KR", 4), ("JPLY", "J2KR", 36), ("J2KI", "J2KR", 101), ("J2KI", "UNC", 0)]
)
def test_lossy_scintigrams(syntaxes, name, other, within):
    one, another = (read(str(syntaxes / f"nm1/NM1_{syntax}"))[0] for syntax in (name, other))
    assert np.abs(one - another).max() <= within and (other != "UNC" or (one.min(), one.max()) == (-30, 245))


def test_lossy_ultrasound(syntaxes):
    one, another = (read(str(syntaxes / f"us1/US1_{syntax}"))[0].astype(int) for syntax in ("J2KI", "J2KR"))
    assert 0 < np.abs(one - another).max() <= 124
    np.testing.assert_array_equal(another, by_itk(syntaxes / "us1/US1_RLE", None)[0])


def test_deflated(syntaxes):
    array, meta = read(str(syntaxes / "deflated_sc.dcm"))
    np.testing.assert_array_equal(array, by_itk(syntaxes / "deflated_sc.dcm")[0])
    assert array.shape == (512, 512, 1) and meta["value_range"] == (0, 255)


def test_jpeg_lossless_and_jpeg_ls(syntaxes):
    array, _ = read(str(syntaxes / "us_philips_jpeg_lossless.dcm"))
    assert array.shape[:3] == (768, 1024, 1)
    np.testing.assert_array_equal(array, by_itk(syntaxes / "us_philips_jpeg_lossless.dcm")[0])
    array, _ = read(str(syntaxes / "us_philips_jpeg_ls.dcm"))
    np.testing.assert_array_equal(array[:, :, 0], dcmread(syntaxes / "us_philips_jpeg_ls.dcm").pixel_array)
