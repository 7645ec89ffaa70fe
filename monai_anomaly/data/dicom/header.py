"""What a DICOM file is, told by its header: a slice of a stack, a volume, frames in time, one picture, or nothing to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from ...errors import DataError
from ..geometry import MAX_PIXELS, MAX_VOXELS
from .elements import IDENTIFIERS, integer, numbers, text, texts
from .slice import Slice, slice_of

__all__ = ["Header", "parse_header"]

Kind = Literal["slice", "volume", "frames", "picture"]


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
class Header:
    """A DICOM file with something to look at."""

    path: str
    kind: Kind
    patient: str = field(repr=False)
    """The PatientID, or what stands in for it. An identifier: :class:`monai_anomaly.data.paths.ShownPaths` says how it is shown."""
    series: str = field(repr=False)
    """The SeriesInstanceUID, ``""`` if it is blank; an identifier, too."""
    frame_and_number: str = field(repr=False)
    """Frame of reference and SeriesNumber, which with the folder stand in for a blank SeriesInstanceUID."""
    series_key: str = field(repr=False)
    """Equal for the files of a series: its SeriesInstanceUID, or what stands in for it."""
    modality: str
    shape: tuple[int, int]
    n_frames: int
    hounsfield: bool
    slice: Slice | None
    """Of a file of kind ``"slice"``."""


def parse_header(dataset: Dataset, path: str, has_pixels: bool, pixel_bytes: int | None = None) -> Header:
    """Check that a data set shows something, and take from it what is needed.

    Args:
        dataset: with the elements ``TAGS``.
        path: of the file.
        has_pixels: whether pixels follow.
        pixel_bytes: bytes of uncompressed pixels in the file, if known.

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
        patient=patient_id or study or frame or folder.name,
        series=series,
        frame_and_number=f"{frame} {number}",
        series_key=series or f"{folder} {frame} {number}",
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
