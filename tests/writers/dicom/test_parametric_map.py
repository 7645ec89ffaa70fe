"""The map lies on the source's slices, value for value."""

from __future__ import annotations

import numpy as np
import pydicom.uid as sop
import pytest
from highdicom import imread
from pydicom import dcmread
from support.dicom import make_picture, make_series
from support.dicom_results import EXPECTED_WARNINGS, HASH, dciodvfy, frames_of_result, slices_of_source
from support.reading import read

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.writers.dicom import parametric_map, read_sources, write_dicom

WINDOW = (-100.0, 300.0)


def test_each_value_lies_where_it_lay_in_the_source(series, algorithm, tmp_path):
    """The map is the image as the reader gives it; the truth is each file's own pixels."""
    array, _ = read(series)
    path = write_dicom(tmp_path / "map.dcm", parametric_map(read_sources(series[::-1]), array, algorithm=algorithm, window=WINDOW))
    found, source = frames_of_result(path), slices_of_source(series)
    assert set(found) == set(source)
    for place, frame in found.items():
        np.testing.assert_array_equal(frame.plane, source[place].plane.astype(np.float32))
        assert frame.refers_to == source[place].refers_to


def test_frames_go_up_the_normal_as_viewers_stack_slices(series, algorithm, tmp_path):
    """OHIF does not look at the frames' positions."""
    array, _ = read(series)
    path = tmp_path / "map.dcm"
    stored = dcmread(write_dicom(path, parametric_map(read_sources(series[::-1]), array, algorithm=algorithm, window=WINDOW)))
    orientation = np.array(stored.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    places = [
        np.dot(normal, np.array(f.PlanePositionSequence[0].ImagePositionPatient, float)) for f in stored.PerFrameFunctionalGroupsSequence
    ]
    assert (np.diff(places) > 0).all()


def test_it_is_a_standard_object_of_the_same_study(series, algorithm, tmp_path):
    array, _ = read(series)
    path = write_dicom(tmp_path / "map.dcm", parametric_map(read_sources(series), array, algorithm=algorithm, window=WINDOW))
    errors, warnings = dciodvfy(path)
    assert not errors
    assert all(any(known in warning for known in EXPECTED_WARNINGS) for warning in warnings), warnings
    result, source = dcmread(path), dcmread(series[0])
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyDate", "AccessionNumber"):
        assert result[keyword].value == source[keyword].value, keyword
    assert result.SeriesInstanceUID != source.SeriesInstanceUID and result.ContentQualification == "RESEARCH"
    for keyword in ("SeriesDescription", "ContentDescription", "DerivationDescription", "ImageComments"):
        assert "NOT FOR DIAGNOSTIC USE" in result[keyword].value
    for known in (HASH, "ab" * 32, "threshold 0.75", "false_alarm_rate 0.05", "SkipTS"):
        assert known in result.DerivationDescription
    shared = result.SharedFunctionalGroupsSequence[0]
    (mapping,) = shared.RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert (
        mapping.DoubleFloatRealWorldValueFirstValueMapped == array.min() and mapping.DoubleFloatRealWorldValueLastValueMapped == array.max()
    )
    assert mapping.MeasurementUnitsCodeSequence[0].CodeMeaning == "anomaly score (dimensionless)"
    window = shared.FrameVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (100, 400)


def test_highdicom_reads_the_same_values(algorithm, tmp_path):
    files = [str(file) for file in sorted(make_series(tmp_path / "series", orientation=(0, 1, 0, 0, 0, -1)).iterdir())]
    array, meta = read(files)
    volume = imread(
        write_dicom(tmp_path / "map.dcm", parametric_map(read_sources(files), array, algorithm=algorithm, window=WINDOW))
    ).get_volume()
    to_array = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ meta["affine"])
    for index in np.ndindex(*volume.spatial_shape):
        row, column, k = np.rint((to_array @ volume.affine @ [*index, 1])[:3]).astype(int)
        assert volume.array[index] == array[row, column, k]


@pytest.mark.parametrize("lowest", [0.25, -3.5])
def test_what_was_not_scored_is_padding(algorithm, tmp_path, lowest):
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    values = np.random.default_rng(0).random((12, 9, 5), dtype=np.float32) + np.float32(lowest)
    values[..., 4] = values[2, :, 1] = np.nan
    path = write_dicom(tmp_path / "map.dcm", parametric_map(read_sources(files), values, algorithm=algorithm, window=(0, 1)))
    assert not dciodvfy(path)[0]
    padding = dcmread(path).FloatPixelPaddingValue
    assert padding < np.nanmin(values) and padding < 0 and padding == int(padding)
    found = sorted(frames_of_result(path).items(), key=lambda one: one[0][2])
    read_back = np.stack([frame.plane for _, frame in found], axis=-1)
    np.testing.assert_array_equal(np.where(read_back == padding, np.nan, read_back), values)


def test_the_given_values_stay_as_they_are(algorithm, tmp_path):
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    values = np.full((12, 9, 5), np.nan, np.float32)
    values[0, 0, 0] = 1
    before = values.copy()
    parametric_map(read_sources(files), values, algorithm=algorithm, window=(0, 1))
    np.testing.assert_array_equal(values, before)


def test_what_cannot_be_is_refused(algorithm, tmp_path):
    files = [str(file) for file in sorted(make_series(tmp_path / "series").iterdir())]
    empty = np.full((12, 9, 5), np.nan, np.float32)
    with pytest.raises(DataError, match="no scored voxel"):
        parametric_map(read_sources(files), empty, algorithm=algorithm, window=(0, 1))
    for window in ((1, 1), (0, np.inf), (2, 1)):
        with pytest.raises(OptionError, match="lower one first"):
            parametric_map(read_sources(files), np.zeros((12, 9, 5)), algorithm=algorithm, window=window)
    picture = make_picture(
        tmp_path / "a", np.zeros((8, 10), np.uint16), modality="CR", sop_class=sop.ComputedRadiographyImageStorage, bits=12
    )
    with pytest.raises(DataError, match="picture without a place in the patient"):
        parametric_map(read_sources(str(picture)), np.zeros((8, 10, 1)), algorithm=algorithm, window=(0, 1))
