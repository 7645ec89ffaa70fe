"""What a radiologist accepts as the study's DICOM objects: Segmentation and Parametric Map; and the mask read back from a Segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom import Dataset

from ...data.dicom.frames import functional_group
from ...data.geometry import RAS_TO_LPS, Grid
from ...errors import DataError, reason
from ...inference import Verdict
from ...writers.dicom import SEGMENT_LABEL, Algorithm, parametric_map, read_sources, segmentation

__all__ = ["HEATMAP", "dicom_results", "heatmap_info", "read_segmentation"]

HEATMAP = "heatmap"
"""Tag of the label that holds the map of the model that answered last; it goes to the PACS with the mask that is accepted."""
_ON_THE_SLICE = 0.01
"""How far, in voxels, a frame may lie beside its slice."""


def heatmap_info(verdict: Verdict) -> dict[str, Any]:
    """What is stored beside a heat map, so that it can become a DICOM object later: who made it, and its display window; plain JSON.

    Args:
        verdict: that the map belongs to.

    Example:
        >>> heatmap_info(detector.judge("export/series_7"))["algorithm"]["name"]  # doctest: +SKIP
        'SkipTS'
    """
    model = verdict.model
    rate = None if verdict.map_threshold is None else verdict.false_alarm_rate
    algorithm = Algorithm(
        model.system, model.teacher_sha256, model.sha256, verdict.map_threshold, rate, verdict.map.smoothing_mm, model.version
    )
    return {"algorithm": asdict(algorithm), "window": list(verdict.colour_range)}


def dicom_results(
    files: Sequence[str], mask: ArrayLike, values: ArrayLike | None, info: Mapping[str, Any], accepted: bool = True
) -> list[Dataset]:
    """The DICOM objects of a result: the Segmentation, and the Parametric Map of what a model has shown.

    There is no map of a mask that was drawn without a model, of a picture, which has no place in the patient, and of a series without a slice to score.

    Args:
        files: of the series.
        mask: ``(rows, columns, slices)``, the mask.
        values: ``(rows, columns, slices)``, the heat map that was shown; ``None`` if there is none.
        info: of the heat map, from :func:`heatmap_info`; empty if no model has judged the series.
        accepted: by a person, or else the model's own.

    Raises:
        DataError: no such objects can be made of this series.

    Example:
        >>> [result.Modality for result in dicom_results(files, mask, values, info)]  # doctest: +SKIP
        ['SEG', 'OT']
    """
    sources, algorithm = read_sources(files), Algorithm(**info["algorithm"]) if info else None
    results: list[Dataset] = [segmentation(sources, mask, algorithm=algorithm, edited=accepted)]
    if algorithm is not None and values is not None and np.isfinite(values).any():
        results.append(parametric_map(sources, values, algorithm=algorithm, window=tuple(info["window"])))
    return results


def read_segmentation(result: Dataset, place: Grid) -> NDArray[np.bool_]:
    """The mask in a DICOM Segmentation, on the grid of the series that it belongs to; each frame goes where it says that it lies.

    Args:
        result: the Segmentation, with pixels.
        place: the grid of the series.

    Returns:
        ``(rows, columns, slices)``; slices without a frame are empty.

    Raises:
        DataError: no segment "Anomaly", or frames that lie on no slice.

    Example:
        >>> read_segmentation(pydicom.dcmread("seg.dcm"), grid(files)).any()  # doctest: +SKIP
        True
    """
    try:
        return _read_segmentation(result, place)
    except DataError:
        raise
    except Exception as error:  # whatever pydicom makes of an odd element
        raise DataError(
            f"The Segmentation cannot be read ({reason(error)}); expected a whole DICOM object: look at it in the PACS."
        ) from error


def _read_segmentation(result: Dataset, place: Grid) -> NDArray[np.bool_]:
    segments = [int(one.SegmentNumber) for one in result.SegmentSequence if str(one.SegmentLabel) == SEGMENT_LABEL]
    if not segments or (int(result.Rows), int(result.Columns)) != place.shape[:2]:
        raise DataError(
            f"The Segmentation has {len(segments)} segments {SEGMENT_LABEL!r} of {result.Rows} x {result.Columns} pixels; expected one on the "
            f"{place.shape[0]} x {place.shape[1]} pixels of its series."
        )
    mask = np.zeros(place.shape, bool)
    frames = np.asarray(result.pixel_array).reshape(-1, *place.shape[:2])
    (shared,) = result.SharedFunctionalGroupsSequence
    for frame, group in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        if int(functional_group(group, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) in segments:
            k = _slice_of(functional_group(group, shared, "PlanePositionSequence"), place) if place.in_patient else 0
            mask[:, :, k] |= frame != 0
    return mask


def _slice_of(plane: Dataset, place: Grid) -> int:
    position = np.array([*map(float, plane.ImagePositionPatient), 1.0])
    row, column, k = (np.linalg.inv(place.affine) @ RAS_TO_LPS @ position)[:3]
    if max(abs(row), abs(column), abs(k - round(k))) > _ON_THE_SLICE or not 0 <= round(k) < place.shape[2]:
        raise DataError("A frame of the Segmentation lies on no slice of its series; expected it on one: take two that belong together.")
    return round(k)
