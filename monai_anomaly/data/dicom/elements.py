"""Elements of a data set as plain numbers and texts, straight from their bytes: a folder has a hundred thousand files."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from ...errors import DataError

__all__ = ["IDENTIFIERS", "identifiers", "integer", "numbers", "rescale_of", "text", "texts"]

IDENTIFIERS = (
    "PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate",
    "SeriesDate", "AcquisitionDate", "ContentDate", "InstitutionName", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
)  # fmt: skip
"""Keywords of elements that may name a patient, a visit, or who was there."""

_TAGS: dict[str, int] = {}


def _element(dataset: Dataset, keyword: str) -> Any:
    tag = _TAGS.get(keyword)
    if tag is None:
        found = tag_for_keyword(keyword)
        if found is None:
            raise KeyError(keyword)
        tag = _TAGS[keyword] = found
    return dataset.get_item(tag)


def texts(dataset: Dataset, keyword: str) -> list[str]:
    """Values of a text element, stripped; ``[]`` if it is absent or empty.

    Example:
        >>> dataset = Dataset()
        >>> dataset.ImageType = ["ORIGINAL", "PRIMARY"]
        >>> texts(dataset, "ImageType"), texts(dataset, "Modality")
        (['ORIGINAL', 'PRIMARY'], [])
    """
    element = _element(dataset, keyword)
    if element is None or element.value is None:
        return []
    value = element.value
    if isinstance(element, RawDataElement):
        parts: Sequence[Any] = value.decode("latin-1").split("\\")
    else:
        parts = [value] if isinstance(value, str | int | float) or not isinstance(value, Sequence) else value
    found = [str(part).strip(" \0") for part in parts]
    return found if any(found) else []


def text(dataset: Dataset, keyword: str) -> str:
    """First value of a text element, or ``""``.

    Example:
        >>> text(Dataset(), "Modality")
        ''
    """
    found = texts(dataset, keyword)
    return found[0] if found else ""


def integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """A whole number: an element of VR ``US`` or ``IS``.

    Raises:
        DataError: it is absent and there is no default, or it holds something else.

    Example:
        >>> integer(Dataset(), "NumberOfFrames", 1)
        1
    """
    element = _element(dataset, keyword)
    value = None if element is None else element.value
    if value is None or value in (b"", ""):
        if default is not None:
            return default
        raise DataError(f"{keyword} is missing; expected a whole number: export the file again.")
    try:
        if isinstance(element, RawDataElement) and (element.VR == "US" or (element.VR in (None, "UN") and len(value) == 2)):
            return int(struct.unpack("<H" if element.is_little_endian else ">H", value)[0])
        return int(value.decode("latin-1").strip(" \0")) if isinstance(value, bytes) else int(value)
    except (TypeError, ValueError, struct.error) as error:
        raise DataError(f"{keyword} does not hold a whole number; expected one: export the file again.") from error


def numbers(dataset: Dataset, keyword: str, n: int | None = None) -> tuple[float, ...]:
    """Finite numbers of an element of VR ``DS``, ``FD`` or ``FL``; ``()`` if it is absent or empty.

    Args:
        dataset: where to look.
        keyword: the element.
        n: how many are expected.

    Raises:
        DataError: another count, or not all are finite numbers.

    Example:
        >>> dataset = Dataset()
        >>> dataset.PixelSpacing = [0.5, 0.75]
        >>> numbers(dataset, "PixelSpacing", 2)
        (0.5, 0.75)
    """
    element = _element(dataset, keyword)
    if element is not None and isinstance(element, RawDataElement) and element.VR in ("FD", "FL"):
        element = dataset[keyword]
    try:
        if element is None or element.value is None:
            values: tuple[float, ...] = ()
        elif isinstance(element, RawDataElement):
            raw = element.value.replace(b"\0", b"").strip()
            values = tuple(map(float, raw.split(b"\\"))) if raw else ()
        else:
            given = element.value
            values = tuple(map(float, [given] if isinstance(given, str | int | float) else given)) if given != "" else ()
    except (TypeError, ValueError) as error:
        raise DataError(f"{keyword} does not hold numbers; expected {n or 'some'}: export the file again.") from error
    if values and (n not in (None, len(values)) or not all(map(math.isfinite, values))):
        raise DataError(f"{keyword} holds {len(values)} numbers, not all usable; expected {n or 'finite ones'}: export the file again.")
    return values


def rescale_of(dataset: Dataset) -> tuple[float, float]:
    """Slope and intercept, 1 and 0 where they are absent.

    Raises:
        DataError: as :func:`numbers`.

    Example:
        >>> rescale_of(Dataset())
        (1.0, 0.0)
    """
    slope, intercept = numbers(dataset, "RescaleSlope", 1), numbers(dataset, "RescaleIntercept", 1)
    return (slope[0] if slope else 1.0, intercept[0] if intercept else 0.0)


def identifiers(dataset: Dataset) -> list[str]:
    """What could name the patient or the visit in a path: names, identifiers, dates; undecodable bytes are passed over.

    Example:
        >>> identifiers(Dataset())
        []
    """
    found: list[str] = []
    for keyword in IDENTIFIERS:
        element = _element(dataset, keyword)
        if element is None or not element.value:
            continue
        value = element.value
        found.append(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
        if isinstance(value, bytes) and not value.isascii():
            found.append(value.decode("latin-1"))
    return found
