"""Which series a result can refer to, and what it takes over from it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from support.dicom import make_picture, make_series
from support.dicom_frames import make_enhanced
from support.dicom_results import HASH
from support.reading import is_sentence

from monai_anomaly.errors import AnomalyError, DataError, OptionError
from monai_anomaly.writers.dicom import Algorithm, parametric_map, read_sources, segmentation, write_dicom

SHAPE = (12, 9, 5)
MASK = np.ones(SHAPE, bool)


def files_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def test_headers_are_read_without_pixels_and_private_elements(tmp_path):
    def with_private(dataset: Dataset, k: int) -> None:
        dataset.private_block(0x0029, "SOMEBODY", create=True).add_new(1, "OB", b"x" * 10_000)

    for dataset in read_sources(files_of(make_series(tmp_path / "a", change=with_private))):
        assert "PixelData" not in dataset and (0x0029, 0x1001) not in dataset


def test_whole_data_sets_do_as_well(tmp_path, algorithm):
    """As a PACS client holds them."""
    files = files_of(make_series(tmp_path / "a"))
    whole, headers = (
        segmentation(sources, MASK, algorithm=algorithm) for sources in ([dcmread(file) for file in files], read_sources(files))
    )
    assert whole.SOPInstanceUID == headers.SOPInstanceUID and whole.PixelData == headers.PixelData


def without(keyword: str, only: int | None = None):
    def change(dataset: Dataset, k: int) -> None:
        if only in (None, k):
            del dataset[keyword]

    return change


def no_uid(dataset: Dataset, k: int) -> None:
    dataset.SeriesInstanceUID = "SAMPLES 1"


def private_class(dataset: Dataset, k: int) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.3.4"


def one_uid(dataset: Dataset, k: int) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"


def two_series(dataset: Dataset, k: int) -> None:
    dataset.SeriesInstanceUID = f"1.2.{1 + k // 3}"


def one_missing(dataset: Dataset, k: int) -> None:
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, float(z) + (2.5 if k > 2 else 0)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("SOPInstanceUID"), "SOPInstanceUID is missing"),
        (without("StudyInstanceUID", only=3), "StudyInstanceUID is missing"),
        (private_class, "none of the standard's"),
        (one_uid, "have the same SOPInstanceUID"),
        (no_uid, "SeriesInstanceUID is no UID"),
        (without("FrameOfReferenceUID"), "FrameOfReferenceUID is missing"),
        (without("ImagePositionPatient", only=2), "ImagePositionPatient is missing"),
        (two_series, "belong to 2 series"),
        (one_missing, "not evenly spaced"),
    ],
)
def test_a_series_that_a_result_cannot_refer_to_is_refused(tmp_path, algorithm, change, words):
    files = files_of(make_series(tmp_path / "a", change=change))
    for make in (segmentation, lambda *given, algorithm: parametric_map(*given, algorithm=algorithm, window=(0, 1))):
        with pytest.raises(DataError, match=words) as refused:
            make(read_sources(files), MASK, algorithm=algorithm)
        assert is_sentence(str(refused.value))


def test_what_has_no_slices_of_its_own_is_refused(tmp_path, algorithm):
    cine = make_picture(
        tmp_path / "cine", np.zeros((3, 8, 10), np.uint8), modality="US", sop_class="1.2.840.10008.5.1.4.1.1.3.1", frame_time_ms=40
    )
    stacks = make_enhanced(tmp_path / "stacks", stacks=2)
    for sources, words in (
        ([], "no source image"),
        (read_sources(str(cine)), "3 frames without a place"),
        (read_sources(str(stacks)), "2 stacks"),
    ):
        with pytest.raises(DataError, match=words) as refused:
            segmentation(sources, MASK, algorithm=algorithm)
        assert is_sentence(str(refused.value))


def test_odd_names_and_dates_are_taken_over_unread_and_unsaid(tmp_path, algorithm, caplog, recwarn):
    """highdicom would refuse such a date, and write such a name into the log."""
    caplog.set_level(logging.DEBUG)

    def odd(dataset: Dataset, k: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientSex = "canary zoë", "X"
        dataset.PatientIdentityRemoved = "YES"
        dataset.add_new("PatientBirthDate", "LO", "2.1.70")
        dataset["PatientBirthDate"].VR = "DA"

    files = files_of(make_series(tmp_path / "a", change=odd))
    path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(files), MASK, algorithm=algorithm))
    raw, source = path.read_bytes(), Path(files[0]).read_bytes()
    for value in ("canary zoë".encode(), b"2.1.70"):
        assert value in raw and value in source
    result = dcmread(path)
    assert result.PatientName == dcmread(files[0]).PatientName and result.PatientSex == "X" and result.PatientIdentityRemoved == "YES"
    assert "canary" not in caplog.text and not [one for one in recwarn if "canary" in str(one.message)]


def test_the_given_data_sets_stay_as_they_are(tmp_path, algorithm):
    files = files_of(make_series(tmp_path / "a"))
    given = [dcmread(file) for file in files]
    segmentation(given, MASK, algorithm=algorithm)
    assert given == [dcmread(file) for file in files]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""}, {"name": "a" * 17}, {"name": "a\\b"}, {"teacher_sha256": ""}, {"teacher_sha256": "5C" * 32}, {"model_sha256": "1"},
        {"threshold": 1.0}, {"false_alarm_rate": 0.1},
    ],
)  # fmt: skip
def test_who_says_so_must_be_told_apart(changes):
    with pytest.raises(OptionError) as refused:
        Algorithm(**{"name": "SkipTS", "teacher_sha256": HASH, **changes})
    assert is_sentence(str(refused.value)) and isinstance(refused.value, AnomalyError)
