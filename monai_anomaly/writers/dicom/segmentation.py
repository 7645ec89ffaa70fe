"""The mask of a series as DICOM Segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from numpy.typing import ArrayLike
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from ...errors import DataError, reason
from ..colours import OUTLINE
from .algorithm import NOTICE, Algorithm
from .file import completed, equipment, sentence
from .source import source_series

__all__ = ["SEGMENT_LABEL", "segmentation"]

SERIES_NUMBER = 9901
SEGMENT_LABEL = "Anomaly"


def segmentation(sources: Sequence[Dataset], mask: ArrayLike, *, algorithm: Algorithm | None, edited: bool = False) -> hd.seg.Segmentation:
    """Make a DICOM Segmentation, binary, with one segment "Anomaly", from the mask of a series.

    Frames are placed as the slices that they lie on, to which they refer, in the study and frame of reference of the source. Slices without a marked pixel have
    no frame; if none is marked (a normal scan), every slice has an empty one, because an object without frames is not allowed. Of a picture
    without a place in the patient (CR, DX, ...) the one frame refers to the picture alone.

    Args:
        sources: the slices of one stack in any order, or one enhanced multi-frame file, or one picture; see :func:`read_sources`.
        mask: ``(rows, columns, slices)`` of the source, slices in the order of their positions, as the reader has them; non-zero inside.
        algorithm: the detector that drew it; ``None`` if a person did, without one: the segment's algorithm type is then MANUAL.
        edited: whether a person changed or confirmed what the detector drew: SEMIAUTOMATIC instead of AUTOMATIC.

    Returns:
        The object; :func:`write_dicom` writes it.

    Raises:
        DataError: no such series, another grid, or a series to which a result cannot refer.

    Example:
        >>> sources = read_sources(["slice1.dcm", "slice2.dcm"])  # doctest: +SKIP
        >>> segmentation(sources, volume > 0.75, algorithm=algorithm).Modality  # doctest: +SKIP
        'SEG'
    """
    source = source_series(sources)
    planes = source.planes(np.asarray(mask).astype(bool, copy=False))
    abnormal = codes.SCT.MorphologicallyAbnormalStructure
    drawn_by = hd.seg.SegmentAlgorithmTypeValues
    if algorithm is None:
        what, kind, name = "Anomaly mask, drawn by a person", drawn_by.MANUAL, "drawn by a person"
    elif edited:
        what, kind, name = "Anomaly mask, edited or confirmed by a person", drawn_by.SEMIAUTOMATIC, algorithm.name
    else:
        what, kind, name = "Anomaly mask", drawn_by.AUTOMATIC, algorithm.name
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=SEGMENT_LABEL,
        segmented_property_category=abnormal,
        segmented_property_type=abnormal,  # the most that an unusual region is known to be; a lesion would be a finding
        algorithm_type=kind,
        algorithm_identification=None
        if algorithm is None
        else hd.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.cid7162.ArtificialIntelligence,
            version=algorithm.version,
            source="monai_anomaly",
            parameters=algorithm.parameters,
        ),
        display_color=hd.color.CIELabColor.from_rgb(*OUTLINE),
    )
    description.SegmentDescription = sentence(what, algorithm)
    try:
        result = hd.seg.Segmentation(
            source_images=source.images,
            pixel_array=planes,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[description],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            omit_empty_frames=bool(planes.any()),
            content_label="ANOMALY",
            content_description=f"Anomaly mask, {NOTICE}",
            series_description=f"Anomaly mask ({name}), {NOTICE}",
            **equipment(algorithm),
        )
    except (AttributeError, KeyError, ValueError) as error:
        raise DataError(
            f"No DICOM Segmentation can be made of this series ({reason(error)}): take the result as NIfTI or picture."
        ) from error
    if source.affine is None:
        result.PatientOrientation = source.images[0].get("PatientOrientation", "")
        result.SharedFunctionalGroupsSequence[0].pop("PixelMeasuresSequence", None)
    return completed(result, source, algorithm, what)
