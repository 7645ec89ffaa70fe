"""What mask and map have in common: patient, study, marks, identifiers; and the file."""

from __future__ import annotations

import hashlib
import io
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ... import __version__
from ...errors import DataError, reason
from ...files import write_whole
from .algorithm import NOTICE, Algorithm
from .source import PATIENT_AND_STUDY, SourceSeries

__all__ = ["completed", "equipment", "sentence", "write_dicom"]

Result = TypeVar("Result", bound=Dataset)

PIXELS = ("PixelData", "FloatPixelData")


def sentence(what: str, algorithm: Algorithm | None) -> str:
    """What an object is, who says so, and what it is not for, in ASCII, at most 1,024 characters.

    Args:
        what: such as ``"Anomaly mask"``.
        algorithm: who says so, of whom all that is known is told; ``None`` for a person alone.

    Example:
        >>> sentence("Anomaly mask", Algorithm("SkipTS", "5c" * 32, version="0.1.0"))[:69]
        'NOT FOR DIAGNOSTIC USE. Anomaly mask by monai_anomaly 0.1.0, SkipTS: '
        >>> sentence("Anomaly mask, drawn by a person", None)
        'NOT FOR DIAGNOSTIC USE. Anomaly mask, drawn by a person, written by monai_anomaly ...'
    """
    if algorithm is None:
        return f"{NOTICE}. {what}, written by monai_anomaly {__version__}."
    known = ", ".join(f"{name} {value}" for name, value in algorithm.parameters.items())
    return f"{NOTICE}. {what} by monai_anomaly {algorithm.version}, {algorithm.name}: {known}."


def equipment(algorithm: Algorithm | None) -> dict[str, Any]:
    """The software as the device that made the object, by highdicom's arguments.

    Example:
        >>> equipment(Algorithm("SkipTS", "5c" * 32))["manufacturer_model_name"]
        'SkipTS'
    """
    if algorithm is None:  # the two are required, and there is but the package
        return {
            "manufacturer": "monai_anomaly",
            "manufacturer_model_name": "monai_anomaly",
            "software_versions": __version__,
            "device_serial_number": __version__,
        }
    return {
        "manufacturer": "monai_anomaly",
        "manufacturer_model_name": algorithm.name,
        "software_versions": algorithm.version,
        # Required, and the only number that tells one trained detector from another.
        "device_serial_number": algorithm.model_sha256 or algorithm.teacher_sha256,
    }


def completed(result: Result, source: SourceSeries, algorithm: Algorithm | None, what: str) -> Result:
    """Give a new object its patient, study, marks and identifiers.

    The identifiers follow from images, detector and pixels: the same result made twice is the same instance, which a PACS keeps once; only the times of
    its making differ.

    Args:
        result: as highdicom made it from the bare images; changed in place.
        source: the series.
        algorithm: who says so; ``None`` for a person alone.
        what: what the object is.
    """
    told = sentence(what, algorithm)
    for keyword in PATIENT_AND_STUDY:
        try:
            if keyword in source.first:
                result[keyword] = source.first[keyword]
        except Exception as error:
            raise DataError(
                f"{keyword} of the source cannot be taken over ({type(error).__name__}); expected what DICOM asks for: export the series again."
            ) from error
    result.DerivationDescription = told
    result.ImageComments = NOTICE

    words = [result.SOPClassUID, *(str(image.SOPInstanceUID) for image in source.images), told]
    words += [_place(frame) for frame in result.PerFrameFunctionalGroupsSequence]
    words += [hashlib.sha256(result[keyword].value).hexdigest() for keyword in PIXELS if keyword in result]
    result.SeriesInstanceUID, result.SOPInstanceUID, dimensions = (
        generate_uid(entropy_srcs=["monai_anomaly result", kind, *words]) for kind in ("series", "instance", "dimensions")
    )
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions

    now = datetime.now()
    result.SeriesDate = result.ContentDate = result.InstanceCreationDate = now.strftime("%Y%m%d")
    result.SeriesTime = result.ContentTime = result.InstanceCreationTime = now.strftime("%H%M%S.%f")
    for item in result.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:
            item.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    return result


def _place(frame: Dataset) -> str:
    """Which image, and which of its frames, a frame lies on: pixels alone do not tell, because empty frames are left out."""
    image = frame.DerivationImageSequence[0].SourceImageSequence[0]
    return f"{image.ReferencedSOPInstanceUID} {image.get('ReferencedFrameNumber', 0)}"


def write_dicom(path: str | Path, result: Dataset) -> Path:
    """Write an object as a DICOM file, whole or not at all.

    Args:
        path: the file.
        result: from :func:`segmentation` or :func:`parametric_map`; as before afterwards.

    Returns:
        The path.

    Raises:
        DataError: it cannot be encoded, or the file cannot be written.

    Example:
        >>> write_dicom("results/s-1_seg.dcm", segmentation(sources, mask, algorithm=algorithm))  # doctest: +SKIP
    """
    pixels = {keyword: result[keyword].value for keyword in PIXELS if keyword in result}
    try:
        for keyword, content in pixels.items():
            result[keyword].value = io.BytesIO(content)  # written block by block; bytes would be copied twice
        return write_whole(path, lambda file: result.save_as(file, enforce_file_format=True))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The DICOM result cannot be encoded ({reason(error)}); expected elements as DICOM asks for: export the series again."
        ) from error
    finally:
        for keyword, content in pixels.items():
            result[keyword].value = content
