"""DICOM slices: their headers, and the order and regularity of the series that they make up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from ..errors import DataError
from .cases import pseudonym
from .formats import reason

__all__ = ["SliceHeader", "group_series", "order_slices", "parse_header", "read_header", "series_affine"]

Vector = NDArray[np.float64]

NO_PICTURES = frozenset({"DOC", "FID", "KO", "PR", "REG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SEG", "SR"})
NO_PIXELS = "The file has no pixel data; expected an image: leave it out."
SPACING_TOLERANCE = 0.01
ROUNDING_MM = 0.01
"""Positions are often written with two decimals."""
TAGS = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip


@dataclass(frozen=True)
class SliceHeader:
    """What is needed of one slice; positions and distances in millimetres, in DICOM's axes (left, posterior, superior)."""

    path: str
    patient: str
    """Pseudonym of the patient."""
    series: str
    """Pseudonym of the series."""
    series_key: str
    """Equal for the slices of a series: its SeriesInstanceUID, or what stands in for it."""
    frame_of_reference: str
    modality: str
    shape: tuple[int, int]
    """Rows and columns."""
    spacing: tuple[float, float]
    """Distance between rows and between columns."""
    row_direction: tuple[float, ...]
    """Where the column index grows, along a row."""
    column_direction: tuple[float, ...]
    position: tuple[float, ...]
    """Centre of the first pixel."""
    thickness: float
    """Step to the next slice as the header has it, for a series of one slice; 1 if unknown."""

    @property
    def normal(self) -> Vector:
        """Direction across the slice."""
        return np.cross(self.row_direction, self.column_direction)


def read_header(path: str | os.PathLike[str]) -> SliceHeader:
    """Read a DICOM file up to its pixels.

    Raises:
        DataError: the file cannot be read, or is not one plain slice with a position in the patient (see :func:`parse_header`).

    Example:
        >>> read_header("slice.dcm").modality  # doctest: +SKIP
        'CT'
    """
    try:
        with open(path, "rb") as file:
            dataset = dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
            rest = b"" if file.closed else file.read(4)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        has_pixels = rest in (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10") or bool(syntax and syntax.is_deflated)
        return parse_header(dataset, str(path), has_pixels)
    except DataError:
        raise
    except Exception as error:  # pydicom raises whatever a broken file makes it raise
        raise DataError(f"The DICOM header cannot be read ({reason(error)}); expected a whole DICOM file: export it again.") from error


def parse_header(dataset: Dataset, path: str, has_pixels: bool) -> SliceHeader:
    """Check that a data set is one plain slice, and take from it what is needed.

    Raises:
        DataError: not a picture, several frames, colour, no position, or values that cannot be.

    Example:
        >>> parse_header(Dataset(), "empty.dcm", has_pixels=True)
        Traceback (most recent call last):
        monai_anomaly.errors.DataError: The picture has None rows and None columns; expected both to be 1 or more: export it again.
    """
    modality = str(dataset.get("Modality") or "")
    if modality in NO_PICTURES:
        raise DataError(f"The DICOM object is of modality {modality}, not a picture; expected slices such as CT or MR: leave it out.")
    if not has_pixels:
        raise DataError(NO_PIXELS)
    frames = dataset.get("NumberOfFrames") or 1
    if int(frames) != 1:
        raise DataError(f"The file holds {frames} frames; expected one slice per file: export the series as single-frame DICOM.")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or dataset.get("PhotometricInterpretation", "MONOCHROME2") != "MONOCHROME2":
        found = dataset.get("PhotometricInterpretation", "colour")
        raise DataError(f"The pixels are {found}; expected MONOCHROME2: export it as PNG.")
    kinds = {str(kind).upper() for kind in _values(dataset, "ImageType")}
    for kind, what in (("MOSAIC", "a mosaic of slices in one picture"), ("LOCALIZER", "a localizer, made to plan the scan")):
        if kind in kinds:
            raise DataError(f"The file is {what}; expected a slice of a series: leave it out or convert it.")
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns:
        raise DataError(f"The picture has {rows} rows and {columns} columns; expected both to be 1 or more: export it again.")
    geometry = {
        tag: _numbers(dataset, tag, n) for tag, n in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2))
    }
    along_row, along_column = geometry["ImageOrientationPatient"][:3], geometry["ImageOrientationPatient"][3:]
    if not np.allclose(
        [np.dot(along_row, along_row), np.dot(along_column, along_column), np.dot(along_row, along_column)], [1, 1, 0], atol=2e-3
    ):
        raise DataError(
            "ImageOrientationPatient does not hold two perpendicular directions of length 1: its geometry cannot be trusted; export it again."
        )
    if min(geometry["PixelSpacing"]) <= 0:
        raise DataError(f"PixelSpacing is {geometry['PixelSpacing']} mm; expected positive distances: export it again.")
    if modality == "CT" and (dataset.get("RescaleSlope") is None or dataset.get("RescaleIntercept") is None):
        raise DataError(
            "The CT slice has no RescaleSlope or RescaleIntercept; expected both, to get Hounsfield units: export it again, or as PNG."
        )
    patient_id, study, series, frame, number = (
        str(dataset.get(tag) or "").strip()
        for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber")
    )
    # Some tools blank the identifiers. Files of one folder and one frame of reference are then tried as one series: the checks of its order decide.
    folder = Path(path).absolute().parent
    series_name = series or f"{folder.name} {frame} {number}"
    return SliceHeader(
        path=path,
        patient=pseudonym("p", patient_id or study or frame or folder.name),
        series=pseudonym("s", series_name),
        series_key=series or f"{folder} {series_name}",
        frame_of_reference=frame,
        modality=modality,
        shape=(int(rows), int(columns)),
        spacing=(geometry["PixelSpacing"][0], geometry["PixelSpacing"][1]),
        row_direction=along_row,
        column_direction=along_column,
        position=geometry["ImagePositionPatient"],
        thickness=_step(dataset),
    )


def group_series(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Slices by series, in the order given, series in the order of their first file.

    Example:
        >>> group_series([])
        []
    """
    series: dict[str, list[SliceHeader]] = {}
    for header in headers:
        series.setdefault(header.series_key, []).append(header)
    return list(series.values())


def order_slices(headers: Sequence[SliceHeader]) -> list[SliceHeader]:
    """Order the slices of one series by position along their normal, and refuse what is not one regular stack.

    The stack may be sheared (a tilted CT gantry): positions must be even along one line, which need not be perpendicular to the slices.

    Raises:
        DataError: mixed series, sizes, orientations or pixel spacings; two slices at one position; steps that differ by more than 1 %.

    Example:
        >>> [header.position[2] for header in order_slices(headers)]  # doctest: +SKIP
        [0.0, 5.0, 10.0]
    """
    first = headers[0]
    for name, what in (
        ("series_key", "series"),
        ("modality", "modalities"),
        ("shape", "picture sizes"),
        ("frame_of_reference", "frames of reference"),
    ):
        found = {getattr(header, name) for header in headers}
        if len(found) > 1:
            shown = f": {sorted(found)}" if name in ("shape", "modality") else ""
            raise DataError(
                f"The {len(headers)} slices have {len(found)} different {what}{shown}; expected one: keep one stack of slices together."
            )
    for name, what in (("row_direction", "orientations"), ("column_direction", "orientations"), ("spacing", "pixel spacings (mm)")):
        values = np.array([getattr(header, name) for header in headers])
        off = np.abs(values - values[0]).max(axis=1) > 1e-3 * np.abs(values[0]).max()
        if off.any():
            other = headers[int(off.argmax())]
            pair = f"{getattr(first, name)} and {getattr(other, name)}"
            raise DataError(
                f"The {len(headers)} slices have different {what}: {pair}; expected one stack of slices: keep it apart from the rest."
            )
    positions = np.array([header.position for header in headers])
    order = np.argsort(positions @ first.normal, kind="stable")
    ordered, positions = [headers[i] for i in order], positions[order]
    if len(ordered) > 1:
        _check_steps(positions, first)
    return ordered


def series_affine(ordered: Sequence[SliceHeader]) -> Vector:
    """Affine ``(4, 4)`` from (row, column, slice) to millimetres in NIfTI's axes (right, anterior, superior), as MONAI has them.

    Args:
        ordered: slices as :func:`order_slices` gives them.

    Example:
        >>> series_affine(order_slices(headers))[:3, 3]  # doctest: +SKIP
        array([115., 110.,  -4.])
    """
    first, last = ordered[0], ordered[-1]
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.column_direction, first.spacing[0])
    affine[:3, 1] = np.multiply(first.row_direction, first.spacing[1])
    if len(ordered) > 1:
        affine[:3, 2] = np.subtract(last.position, first.position) / (len(ordered) - 1)
    else:
        affine[:3, 2] = first.normal * first.thickness
    affine[:3, 3] = first.position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _check_steps(positions: Vector, first: SliceHeader) -> None:
    heights = positions @ first.normal
    steps = np.diff(heights)
    expected = float(np.median(steps))
    smallest = int(steps.argmin())
    if steps[smallest] < max(ROUNDING_MM, SPACING_TOLERANCE * expected):
        places = 1 + int((steps >= max(ROUNDING_MM, SPACING_TOLERANCE * expected)).sum())
        raise DataError(
            f"The {len(steps) + 1} slices lie at only {places} positions (slices {smallest + 1} and {smallest + 2} share one): several time points, echoes or "
            "copies in one series; expected one slice at each position: export them as series of their own."
        )
    tolerance = max(SPACING_TOLERANCE * expected, ROUNDING_MM)
    worst = int(np.abs(steps - expected).argmax())
    if abs(steps[worst] - expected) > tolerance:
        raise DataError(
            f"The slices are not evenly spaced: {expected:.3f} mm expected, {steps[worst]:.3f} mm found between slices {worst + 1} and {worst + 2} "
            f"of {len(steps) + 1}, ordered by position; a slice may be missing: export the series again."
        )
    line = positions[0] + np.arange(len(positions))[:, None] * (positions[-1] - positions[0]) / len(steps)
    aside = float(np.linalg.norm(positions - line, axis=1).max())
    if aside > max(tolerance, 0.1 * min(first.spacing)):
        raise DataError(
            f"The slices are shifted against each other by up to {aside:.3f} mm; expected positions on one line: export the series again."
        )


def _values(dataset: Dataset, tag: str) -> list[Any]:
    value = dataset.get(tag)
    if value is None:
        return []
    return [value] if isinstance(value, str | int | float) else list(value)


def _numbers(dataset: Dataset, tag: str, n: int) -> tuple[float, ...]:
    values = tuple(float(value) for value in _values(dataset, tag))
    if len(values) != n or not np.isfinite(values).all():
        raise DataError(
            f"{tag} holds {len(values)} usable numbers; expected {n}, to know where the slice lies: export it as PNG if that does not matter."
        )
    return values


def _step(dataset: Dataset) -> float:
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        values = _values(dataset, tag)
        if values and np.isfinite(float(values[0])) and float(values[0]) > 0:
            return float(values[0])
    return 1.0
