"""Each pixel of the mask lies on the frame whose place is that of the source's slice: checked by pydicom and arithmetic alone."""

from __future__ import annotations

import numpy as np
import pydicom.uid as sop
import pytest
from pydicom import dcmread
from support.dicom import make_picture, make_series
from support.dicom_results import EXPECTED_WARNINGS, HASH, dciodvfy, frames_of_result, slices_of_source
from support.reading import read

from monai_anomaly.errors import DataError
from monai_anomaly.writers.dicom import Algorithm, read_sources, segmentation, write_dicom


def test_each_pixel_lies_where_it_lay_in_the_source(series, algorithm, tmp_path):
    """The mask is a threshold on the values as the reader gives them; the truth is the same threshold on each file's own pixels."""
    array, _ = read(series)
    threshold = float(np.quantile(array, 0.8)) + 0.01
    path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(series[::-1]), array > threshold, algorithm=algorithm))
    found, source = frames_of_result(path), slices_of_source(series)
    marked = {place: one for place, one in source.items() if (one.plane > threshold).any()}
    assert set(found) == set(marked) and len(source) == array.shape[2]
    for place, frame in found.items():
        np.testing.assert_array_equal(frame.plane, source[place].plane > threshold)
        assert frame.refers_to == source[place].refers_to


def test_one_voxel_is_one_pixel(series, algorithm, tmp_path):
    """Every corner of the volume on its own: no axis is mirrored or exchanged."""
    array, _ = read(series)
    source = slices_of_source(series)
    for corner in np.ndindex(2, 2, 2):
        index = tuple(int(n) - 1 if last else 0 for last, n in zip(corner, array.shape))
        mask = np.zeros(array.shape, np.uint8)
        mask[index] = 1
        path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(series), mask, algorithm=algorithm))
        ((place, frame),) = frames_of_result(path).items()
        assert np.argwhere(frame.plane).tolist() == [list(index[:2])]
        assert source[place].plane[index[:2]] == pytest.approx(array[index], abs=1e-3)  # the value tells the place
        assert frame.refers_to == source[place].refers_to


def test_it_is_a_standard_object_of_the_same_study(series, algorithm, tmp_path):
    array, _ = read(series)
    path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(series), array > np.median(array), algorithm=algorithm))
    errors, warnings = dciodvfy(path)
    assert not errors
    assert all(any(known in warning for known in EXPECTED_WARNINGS) for warning in warnings), warnings
    result, source = dcmread(path), dcmread(series[0])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate", "StudyTime", "AccessionNumber"):
        assert result[keyword].value == source[keyword].value, keyword
    assert result.SeriesInstanceUID != source.SeriesInstanceUID and result.Modality == "SEG" and result.SegmentationType == "BINARY"
    (referenced,) = result.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    uids = {dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in series}
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == uids


def test_a_normal_scan_has_a_mask_too(series, algorithm, tmp_path, caplog):
    array, _ = read(series)
    path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(series), np.zeros(array.shape, bool), algorithm=algorithm))
    found = frames_of_result(path)
    assert set(found) == set(slices_of_source(series)) and not any(frame.plane.any() for frame in found.values())
    assert not dciodvfy(path)[0] and not caplog.records


def test_who_says_so_stands_in_it(algorithm, tmp_path):
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    result = dcmread(write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(files), np.ones((12, 9, 5)), algorithm=algorithm)))
    for keyword in ("SeriesDescription", "ContentDescription", "DerivationDescription", "ImageComments"):
        assert "NOT FOR DIAGNOSTIC USE" in result[keyword].value
    (segment,) = result.SegmentSequence
    assert segment.SegmentLabel == "Anomaly" and segment.SegmentAlgorithmType == "AUTOMATIC" and segment.SegmentAlgorithmName == "SkipTS"
    assert "NOT FOR DIAGNOSTIC USE" in segment.SegmentDescription
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    (identification,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (identification.AlgorithmName, identification.AlgorithmVersion) == ("SkipTS", algorithm.version)
    for text in (identification.AlgorithmParameters, result.DerivationDescription, segment.SegmentDescription):
        assert HASH in text and "ab" * 32 in text and "0.75" in text and "0.05" in text
    assert (result.Manufacturer, result.ManufacturerModelName, result.DeviceSerialNumber) == ("monai_anomaly", "SkipTS", "ab" * 32)


def test_a_mask_that_a_person_edited_is_not_automatic(algorithm, tmp_path):
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    result = segmentation(read_sources(files), np.ones((12, 9, 5)), algorithm=algorithm, edited=True)
    assert result.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert "edited" in result.DerivationDescription
    assert not dciodvfy(write_dicom(tmp_path / "seg.dcm", result))[0]


def test_a_mask_that_a_person_drew_is_manual_and_names_no_algorithm(series, tmp_path):
    array, _ = read(series)
    path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(series), array > np.median(array), algorithm=None))
    errors, warnings = dciodvfy(path)
    assert not errors
    assert all(any(known in warning for known in EXPECTED_WARNINGS) for warning in warnings), warnings
    result = dcmread(path)
    (segment,) = result.SegmentSequence
    assert segment.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in segment and "SegmentationAlgorithmIdentificationSequence" not in segment
    for text in (result.SeriesDescription, result.DerivationDescription, segment.SegmentDescription):
        assert "drawn by a person" in text and "NOT FOR DIAGNOSTIC USE" in text and "sha256" not in text
    source = slices_of_source(series)
    for place, frame in frames_of_result(path).items():
        np.testing.assert_array_equal(frame.plane, source[place].plane > np.median(array))


def test_the_same_result_is_the_same_instance(algorithm, tmp_path):
    """Sent twice, a PACS has it once; anything else is another instance in another series."""
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    mask, other = np.zeros((2, 12, 9, 5), bool)
    mask[3, 4, 2] = other[3, 4, 1] = True
    first, again = (segmentation(read_sources(order), mask, algorithm=algorithm) for order in (files, files[::-1]))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[keyword].value == again[keyword].value
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    others = [
        segmentation(read_sources(files), other, algorithm=algorithm),
        segmentation(read_sources(files), mask, algorithm=Algorithm("SkipTS", HASH, "ab" * 32, threshold=0.76, false_alarm_rate=0.05)),
        segmentation(read_sources(files), mask, algorithm=algorithm, edited=True),
    ]
    assert len({one.SOPInstanceUID for one in (first, *others)}) == len({one.SeriesInstanceUID for one in (first, *others)}) == 4


@pytest.mark.parametrize(
    ("modality", "sop_class"),
    [
        ("CR", sop.ComputedRadiographyImageStorage),
        ("DX", sop.DigitalXRayImageStorageForPresentation),
        ("OT", sop.SecondaryCaptureImageStorage),
    ],
)
def test_a_picture_has_a_mask_that_refers_to_it_and_lies_nowhere(algorithm, tmp_path, modality, sop_class):
    pixels = np.arange(80, dtype=np.uint16).reshape(8, 10)
    file = make_picture(tmp_path / "a", pixels, modality=modality, sop_class=sop_class, bits=12)
    mask = (pixels > 50)[..., None]
    path = write_dicom(tmp_path / "seg.dcm", segmentation(read_sources(str(file)), mask, algorithm=algorithm))
    result, source = dcmread(path), dcmread(file)
    assert not dciodvfy(path)[0]
    np.testing.assert_array_equal(result.pixel_array, mask[..., 0])
    assert "FrameOfReferenceUID" not in result and result.StudyInstanceUID == source.StudyInstanceUID
    (groups,) = result.PerFrameFunctionalGroupsSequence
    assert "PlanePositionSequence" not in groups
    assert groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_another_grid_is_refused(algorithm, tmp_path):
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    for shape in ((9, 12, 5), (12, 9, 4), (12, 9)):
        with pytest.raises(DataError, match=r"the series \(12, 9, 5\) \(rows, columns, slices\); expected the same"):
            segmentation(read_sources(files), np.zeros(shape), algorithm=algorithm)
