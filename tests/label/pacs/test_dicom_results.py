"""The DICOM objects of what a radiologist accepts, and what is read back from a Segmentation."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from monai_anomaly.errors import DataError
from monai_anomaly.label.pacs.dicom_results import dicom_results, read_segmentation

INFO = {"algorithm": {"name": "SkipTS", "teacher_sha256": "5c" * 32, "threshold": 0.5, "false_alarm_rate": 0.1}, "window": [0.0, 1.0]}


def test_a_segmentation_is_read_frame_by_frame_to_where_it_lies(series_files, series_grid, random_mask):
    one = random_mask.copy()
    one[:, :, [0, 3]] = False  # slices without a mark have no frame
    seg, shown = dicom_results(series_files, one, random_mask.astype(np.float32), INFO)
    assert (seg.Modality, shown.Modality, seg.NumberOfFrames) == ("SEG", "OT", 3)
    assert np.array_equal(read_segmentation(seg, series_grid), one)
    frames, groups = seg.pixel_array[::-1], seg.PerFrameFunctionalGroupsSequence
    seg.PerFrameFunctionalGroupsSequence = [groups[k] for k in (2, 1, 0)]
    pixels = np.packbits(frames.ravel(), bitorder="little").tobytes()
    seg.PixelData = pixels + b"\0" * (len(pixels) % 2)
    assert np.array_equal(read_segmentation(seg, series_grid), one)


def test_a_segmentation_that_lies_elsewhere_is_refused(series_files, series_grid, random_mask):
    (seg, _) = dicom_results(series_files, random_mask, random_mask.astype(np.float32), INFO)
    position = seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    right = list(position.ImagePositionPatient)
    position.ImagePositionPatient = [right[0] + 0.5, *right[1:]]
    with pytest.raises(DataError, match="lies on no slice"):
        read_segmentation(seg, series_grid)
    position.ImagePositionPatient = right
    seg.SegmentSequence[0].SegmentLabel = "Liver"
    with pytest.raises(DataError, match="0 segments 'Anomaly'"):
        read_segmentation(seg, series_grid)
    seg.SegmentSequence[0].SegmentLabel = "Anomaly"
    del seg.PerFrameFunctionalGroupsSequence
    with pytest.raises(DataError, match="cannot be read"):
        read_segmentation(seg, series_grid)


def test_an_empty_mask_and_a_map_without_values_still_make_a_segmentation(series_files, series_grid):
    empty, holes = np.zeros(series_grid.shape, bool), np.full(series_grid.shape, np.nan, np.float32)
    (seg,) = dicom_results(series_files, empty, holes, INFO)
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC" and not read_segmentation(seg, series_grid).any()


def test_a_mask_that_a_person_drew_names_no_algorithm_and_has_no_map(series_files, series_grid, random_mask):
    (seg,) = dicom_results(series_files, random_mask, None, {})
    (segment,) = seg.SegmentSequence
    assert segment.SegmentAlgorithmType == "MANUAL" and "SegmentationAlgorithmIdentificationSequence" not in segment
    assert (
        "SegmentAlgorithmName" not in segment
        and "drawn by a person" in seg.SeriesDescription
        and np.array_equal(read_segmentation(seg, series_grid), random_mask)
    )
