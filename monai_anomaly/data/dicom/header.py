"""What a DICOM file is, told by its header: a slice of a stack, a volume, frames in time, one picture, or nothing to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from ...errors import DataError
from ..cases import pseudonym
from ..raster import MAX_PIXELS
from .elements import IDENTIFIERS, integer, numbers, text, texts

__all__ = ["MAX_VOXELS", "Header", "Slice", "check_plane", "parse_header", "step_of"]

Kind = Literal["slice", "volume", "frames", "picture"]

LARGEST_MM = 1e5
"""Nothing in a scanner lies a hundred metres away."""
MAX_VOXELS = 2**29
"""Largest volume that is decoded (2 GiB as float32; 2,048 slices of 512 x 512): a small file can pretend to be much larger."""

NO_PICTURES = frozenset(
    {"AU", "DOC", "ECG", "FID", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SM", "SR"}
)
NO_PICTURE_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.9.": "a waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.30": "a parametric map",
    "1.2.840.10008.5.1.4.1.1.66": "raw data, a segmentation or a registration",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a whole-slide image",
    "1.2.840.10008.5.1.4.1.1.88.": "a report",
    "1.2.840.10008.5.1.4.1.1.104.": "an encapsulated document",
    "1.2.840.10008.5.1.4.1.1.481.": "a radiotherapy object",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
PLACED = {  # storage classes whose slices always lie somewhere in the patient
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
}
TAGS = (
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "FrameOfReferenceUID", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope",
    "RescaleIntercept", "InstanceNumber", "AcquisitionNumber", "EchoNumbers", "EchoTime", "TemporalPositionIdentifier", "TriggerTime", "AcquisitionTime",
    "ContentTime", "DiffusionBValue", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    *IDENTIFIERS,
)  # fmt: skip
COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"})


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
    marks: tuple[str, ...] = ()
    """What may tell slices at one position apart: acquisition, echo, time, b-value, kind of image (:data:`monai_anomaly.data.dicom.stacks.MARKS`)."""


@dataclass(frozen=True, slots=True)
class Header:
    """A DICOM file with something to look at."""

    path: str
    kind: Kind
    patient: str
    """Pseudonym of the patient, or the identifier itself where identifiers are kept."""
    series: str
    series_key: str
    """Equal for the files of a series: its SeriesInstanceUID, or what stands in for it."""
    modality: str
    shape: tuple[int, int]
    n_frames: int
    hounsfield: bool
    slice: Slice | None
    """Of a file of kind ``"slice"``."""


def parse_header(dataset: Dataset, path: str, has_pixels: bool, pixel_bytes: int | None = None, keep_ids: bool = False) -> Header:
    """Check that a data set shows something, and take from it what is needed.

    Args:
        dataset: with the elements ``TAGS``.
        path: of the file.
        has_pixels: whether pixels follow.
        pixel_bytes: bytes of uncompressed pixels in the file, if known.
        keep_ids: name patients and series by their identifiers instead of pseudonyms.

    Raises:
        DataError: no picture, a localizer, values that cannot be, more pixels than the file or the memory can hold, or a slice without a place.

    Example:
        >>> parse_header(Dataset(), "empty.dcm", has_pixels=True)
        Traceback (most recent call last):
        monai_anomaly.errors.DataError: Rows is missing; expected a whole number: export the file again.
    """
    modality, sop_class = text(dataset, "Modality"), text(dataset, "SOPClassUID")
    if modality in NO_PICTURES:
        raise DataError(f"The DICOM object is of modality {modality}, not a picture; expected slices such as CT or MR: leave it out.")
    for prefix, what in NO_PICTURE_CLASSES.items():
        if sop_class.startswith(prefix):
            raise DataError(f"The DICOM object is {what}, not a picture; expected slices such as CT or MR: leave it out.")
    if not has_pixels:
        raise DataError("The file has no pixel data; expected an image: leave it out.")
    shape, n_frames = _check_pixels(dataset, pixel_bytes)
    image_type = [kind.upper() for kind in texts(dataset, "ImageType")]
    if "LOCALIZER" in image_type:
        raise DataError("The file is a localizer, made to plan the scan; expected a slice of a series: leave it out.")

    # Some tools blank the identifiers. Files of one folder and one frame of reference are then tried as one series: the checks of its order decide.
    patient_id, study, series, frame, number = (
        text(dataset, tag) for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SeriesNumber")
    )
    folder = Path(path).absolute().parent
    series_key = series or f"{folder} {frame} {number}"
    patient_key = patient_id or study or frame or folder.name
    kind = _kind(dataset, modality, sop_class, image_type, n_frames)
    colour = text(dataset, "PhotometricInterpretation") in COLOURS
    rescaled = bool(numbers(dataset, "RescaleSlope")) and bool(numbers(dataset, "RescaleIntercept"))
    captured = sop_class.startswith(SECONDARY_CAPTURE)
    if kind == "slice" and modality == "CT" and not (rescaled or captured or colour):
        raise DataError(
            "The CT slice has no RescaleSlope or RescaleIntercept; expected both, to get Hounsfield units: export it again, or as PNG."
        )
    return Header(
        path=path,
        kind=kind,
        patient=patient_key if keep_ids else pseudonym("p", patient_key),
        series=(series or folder.name) if keep_ids else pseudonym("s", series or f"{folder.name} {frame} {number}"),
        series_key=series_key,
        modality=modality,
        shape=shape,
        n_frames=n_frames,
        hounsfield=modality == "CT" and not captured and not colour and (rescaled or kind == "volume"),
        slice=slice_of(dataset, path, shape) if kind == "slice" else None,
    )


def _check_pixels(dataset: Dataset, pixel_bytes: int | None) -> tuple[tuple[int, int], int]:
    rows, columns = integer(dataset, "Rows"), integer(dataset, "Columns")
    n_frames = integer(dataset, "NumberOfFrames", 1)
    samples, bits = integer(dataset, "SamplesPerPixel", 1), integer(dataset, "BitsAllocated", 16)
    colours = text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if rows < 1 or columns < 1 or n_frames < 1:
        raise DataError(
            f"The picture has {rows} rows, {columns} columns and {n_frames} frames; expected all to be 1 or more: export it again."
        )
    if rows * columns > MAX_PIXELS or rows * columns * n_frames * samples > MAX_VOXELS:
        raise DataError(
            f"The header asks for {n_frames} frames of {rows} x {columns} pixels; expected at most {MAX_PIXELS:,} in one, "
            f"{MAX_VOXELS:,} in all: export it in parts."
        )
    if bits not in (8, 12, 16, 32) or (samples, colours in COLOURS - {"PALETTE COLOR"}) not in ((1, False), (3, True)):
        raise DataError(
            f"The pixels are {colours} with {samples} samples of {bits} bits; expected grey, palette or RGB of 8, 12, 16 or 32 bits: export it as PNG."
        )
    if colours not in COLOURS and colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"The pixels are {colours[:30]}; expected MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR: export it as PNG.")
    needed = rows * columns * n_frames * samples * bits // 8
    if colours == "YBR_FULL_422":
        needed = needed * 2 // 3
    if pixel_bytes is not None and pixel_bytes < needed:
        raise DataError(
            f"The file holds {pixel_bytes:,} bytes of pixels; expected {needed:,} by its header: it is cut off, copy or export it again."
        )
    return (rows, columns), n_frames


def _kind(dataset: Dataset, modality: str, sop_class: str, image_type: list[str], n_frames: int) -> Kind:
    if "MOSAIC" in image_type or "PerFrameFunctionalGroupsSequence" in dataset:
        return "volume"
    if n_frames > 1:
        return "frames"
    if numbers(dataset, "ImagePositionPatient") and numbers(dataset, "ImageOrientationPatient") and numbers(dataset, "PixelSpacing"):
        return "slice"
    if sop_class in PLACED:
        missing = next(tag for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing") if not numbers(dataset, tag))
        raise DataError(
            f"{missing} is missing; expected it in every {modality or PLACED[sop_class]} slice, to know where it lies: export it again, or as PNG."
        )
    return "picture"


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
        marks=(
            text(dataset, "AcquisitionNumber"),
            text(dataset, "EchoNumbers") or text(dataset, "EchoTime"),
            text(dataset, "TemporalPositionIdentifier") or text(dataset, "TriggerTime"),
            text(dataset, "DiffusionBValue") if dataset.get_item("DiffusionBValue") is not None else "",
            "\\".join(texts(dataset, "ImageType")),
            text(dataset, "AcquisitionTime"),
            text(dataset, "ContentTime"),
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
