"""The anomaly map of a series as DICOM Parametric Map."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import Dataset

from ...errors import DataError, OptionError, reason
from .algorithm import NOTICE, Algorithm
from .file import completed, equipment
from .source import source_series

__all__ = ["parametric_map"]

SERIES_NUMBER = 9902
_UNIT = ("{anomaly_score}", "UCUM", "anomaly score (dimensionless)")


def parametric_map(
    sources: Sequence[Dataset],
    values: ArrayLike,
    *,
    algorithm: Algorithm,
    window: tuple[float, float],
) -> hd.pm.ParametricMap:
    """Make a DICOM Parametric Map of float32 from the anomaly map of a series, value for value.

    Each slice has a frame, placed as the slice and referring to it, in the study and frame of reference of the source. Voxels that were not scored (NaN)
    hold the object's Float Pixel Padding Value, a whole number below all scores.

    Args:
        sources: the slices of one stack in any order, or one enhanced multi-frame file; see :func:`read_sources`.
        values: ``(rows, columns, slices)`` of the source, slices in the order of their positions, as the reader has them.
        algorithm: the detector that made it.
        window: (low, high) map values of the display window: the model's colour range.

    Returns:
        The object; :func:`monai_anomaly.writers.dicom.write_dicom` writes it.

    Raises:
        DataError: no such series, another grid, no scored voxel, or a picture without a place in the patient, which cannot have a Parametric Map.
        OptionError: a window that is none.

    Example:
        >>> sources = read_sources(["slice1.dcm", "slice2.dcm"])  # doctest: +SKIP
        >>> parametric_map(sources, volume, algorithm=algorithm, window=(0.0, 1.0)).NumberOfFrames  # doctest: +SKIP
        2
    """
    low, high = float(window[0]), float(window[1])
    if not (np.isfinite([low, high]).all() and low < high):
        raise OptionError(f"The window goes from {low} to {high}; expected two finite numbers, the lower one first.")
    source = source_series(sources)
    if source.affine is None:
        raise DataError(
            "The source is a picture without a place in the patient, which a DICOM Parametric Map must have; expected slices or an enhanced multi-frame file: "
            "take the heat map as PNG."
        )
    planes = source.planes(np.asarray(values, dtype=np.float32))
    least, most = _range(planes)
    padding = float(np.floor(min(least, 0.0))) - 1
    gaps = not all(np.isfinite(plane).all() for plane in planes)
    if gaps:
        planes = np.nan_to_num(planes, nan=padding, posinf=padding, neginf=padding)
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="anomaly score",
        lut_explanation=f"Anomaly score, {NOTICE}",
        unit=hd.sr.CodedConcept(*_UNIT),
        value_range=(least, most),
        slope=1.0,
        intercept=0.0,
    )
    try:
        result = hd.pm.ParametricMap(
            source_images=source.images,
            pixel_array=planes,
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            # The default, LINEAR, is made for whole numbers and does not allow windows narrower than 1.
            voi_lut_transformations=[
                hd.VOILUTTransformation((low + high) / 2, high - low, voi_lut_function=hd.VOILUTFunctionValues.LINEAR_EXACT)
            ],
            content_qualification=hd.ContentQualificationValues.RESEARCH,
            content_label="ANOMALY_MAP",
            content_description=f"Anomaly map, {NOTICE}",
            series_description=f"Anomaly map ({algorithm.name}), {NOTICE}",
            **equipment(algorithm),
        )
    except (AttributeError, KeyError, ValueError) as error:
        raise DataError(f"No DICOM Parametric Map can be made of this series ({reason(error)}): take the result as NIfTI.") from error
    image = source.images[0]
    if "BodyPartExamined" in image:
        result.BodyPartExamined = image.BodyPartExamined
    if "Laterality" in image or "BodyPartExamined" not in image:
        result.Laterality = image.get("Laterality", "")  # of what may be one of a pair it must not be absent
    if gaps:
        result.FloatPixelPaddingValue = result.FloatPixelPaddingRangeLimit = padding  # a range of one value: validators ask for both
    result = _up_the_normal(result, source.affine)
    return completed(result, source, algorithm, "Anomaly map")


def _up_the_normal(result: hd.pm.ParametricMap, affine: NDArray[np.float64]) -> hd.pm.ParametricMap:
    """Frames in the order in which their positions go along DICOM's normal, as volumes are built.

    highdicom writes them the other way round, which the standard allows; but OHIF lays frames over the slices as they come, and the hot spot of one slice would
    be seen on another.
    """
    frames = list(result.PerFrameFunctionalGroupsSequence)
    if len(frames) < 2:
        return result
    normal = np.cross(affine[:3, 1], affine[:3, 0]) * (-1.0, -1.0, 1.0)
    places = [np.dot(normal, np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)) for frame in frames]
    pixels, size = memoryview(result.FloatPixelData), 4 * result.Rows * result.Columns
    order = np.argsort(places)
    result.FloatPixelData = b"".join(pixels[k * size : (k + 1) * size] for k in order)
    result.PerFrameFunctionalGroupsSequence = [frames[k] for k in order]
    return hd.pm.ParametricMap.from_dataset(result, copy=False)  # its own table of frames is made anew


def _range(planes: NDArray[np.float32]) -> tuple[float, float]:
    """Lowest and highest score, plane by plane: a mask of the whole volume would need a quarter of its memory."""
    ranges = [(scored.min(), scored.max()) for plane in planes if (scored := plane[np.isfinite(plane)]).size]
    if not ranges:
        raise DataError("The map has no scored voxel; expected at least one: there is nothing to be shown of an empty series.")
    lowest, highest = zip(*ranges, strict=True)
    return float(min(lowest)), float(max(highest))
