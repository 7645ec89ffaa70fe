"""One slice in the patient, as the header of its file or frame has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pydicom.dataset import Dataset

from ...errors import DataError
from .elements import numbers, text, texts

__all__ = ["Marks", "Slice", "check_plane", "slice_of", "step_of"]

LARGEST_MM = 1e5
"""Nothing in a scanner lies a hundred metres away."""


class Marks(NamedTuple):
    """What may tell slices at one position apart, in the order in which it is tried; ``""`` where the header does not say.

    Example:
        >>> Marks(echo="2")._fields[:3]
        ('acquisition', 'echo', 'time')
    """

    acquisition: str = ""
    echo: str = ""
    time: str = ""
    b_value: str = ""
    image_kind: str = ""
    acquisition_time: str = ""
    content_time: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice in the patient; positions and distances in millimetres, in DICOM's axes (left, posterior, superior)."""

    path: str
    name: str
    """How it is called in messages: ``"instance 12"``, ``"frame 3"``."""
    frame_of_reference: str
    shape: tuple[int, int]
    """Rows and columns."""
    spacing: tuple[float, ...]
    """Distance between rows and between columns."""
    orientation: tuple[float, ...]
    """Direction in which the column index grows (three numbers), then that of the row index."""
    position: tuple[float, ...]
    """Centre of the first pixel."""
    thickness: float
    """Step to the next slice as the header has it, for a stack of one; 1 if unknown."""
    marks: Marks = field(default_factory=Marks)


def slice_of(dataset: Dataset, path: str, shape: tuple[int, int]) -> Slice:
    """The place of a single-frame file in the patient.

    Raises:
        DataError: values that are no geometry.

    Example:
        >>> slice_of(dataset, "slice.dcm", (512, 512)).position  # doctest: +SKIP
        (-125.0, -120.0, 35.5)
    """
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    spacing = numbers(dataset, "PixelSpacing", 2)
    position = numbers(dataset, "ImagePositionPatient", 3)
    check_plane(orientation, spacing, position)
    number = text(dataset, "InstanceNumber")
    return Slice(
        path=path,
        name=f"instance {number}" if number.isdecimal() and len(number) < 10 else "an instance without number",
        frame_of_reference=text(dataset, "FrameOfReferenceUID"),
        shape=shape,
        spacing=spacing,
        orientation=orientation,
        position=position,
        thickness=step_of(dataset),
        marks=Marks(
            acquisition=text(dataset, "AcquisitionNumber"),
            echo=text(dataset, "EchoNumbers") or text(dataset, "EchoTime"),
            time=text(dataset, "TemporalPositionIdentifier") or text(dataset, "TriggerTime"),
            b_value=text(dataset, "DiffusionBValue") if dataset.get_item("DiffusionBValue") is not None else "",
            image_kind="\\".join(texts(dataset, "ImageType")),
            acquisition_time=text(dataset, "AcquisitionTime"),
            content_time=text(dataset, "ContentTime"),
        ),
    )


def check_plane(orientation: tuple[float, ...], spacing: tuple[float, ...], position: tuple[float, ...]) -> None:
    """Refuse directions that are not perpendicular and of length 1, distances that are not positive, and places outside any scanner.

    Raises:
        DataError: they are not.

    Example:
        >>> check_plane((1, 0, 0, 0, 1, 0), (0.5, 0.5), (0, 0, 0))
    """
    along_row, along_column = orientation[:3], orientation[3:]
    products = (_dot(along_row, along_row) - 1, _dot(along_column, along_column) - 1, _dot(along_row, along_column))
    if max(map(abs, products)) > 2e-3:
        raise DataError(
            "ImageOrientationPatient does not hold two perpendicular directions of length 1: its geometry cannot be trusted; export it again."
        )
    if max(map(abs, (*position, *spacing))) > LARGEST_MM:
        raise DataError(
            f"The slice lies or reaches more than {LARGEST_MM / 1000:g} m away; expected a place in a scanner: export it again."
        )
    if min(spacing) <= 0:
        raise DataError(f"PixelSpacing is {' x '.join(f'{x:g}' for x in spacing)} mm; expected positive distances: export it again.")


def _dot(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def step_of(dataset: Dataset) -> float:
    """Distance to the next slice as the header has it, in mm; 1 if it does not say.

    Example:
        >>> step_of(Dataset())
        1.0
    """
    for tag in ("SpacingBetweenSlices", "SliceThickness"):
        values = numbers(dataset, tag)
        if values and values[0] > 0:
            return values[0]
    return 1.0
