"""DICOM objects made in the test, as the standard wants them (checked in tests/support/test_dicom.py): series, pictures, cine.

In a series the value of each pixel is a linear function of its place in the patient, so that values show whether array and geometry agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.uid as sop
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import convert_color_space
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (float(np.cos(0.3)), float(np.sin(0.3)), 0.0, 0.0, 0.0, -1.0)  # along a row in the axial plane, down a column towards the feet

Change = Callable[[Dataset, int], None]

CLASS_TAGS: dict[str, dict[str, Any]] = {
    sop.CTImageStorage: {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "KVP": 120, "AcquisitionNumber": 1},
    sop.MRImageStorage: {
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"], "ScanningSequence": "SE", "SequenceVariant": "NONE", "ScanOptions": "", "MRAcquisitionType": "2D",
        "EchoTime": 10, "EchoTrainLength": 1, "RepetitionTime": 500,
    },
    sop.ComputedRadiographyImageStorage: {"BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientOrientation": ["L", "F"]},
    sop.DigitalXRayImageStorageForPresentation: {
        "ImageType": ["ORIGINAL", "PRIMARY"], "PresentationIntentType": "FOR PRESENTATION", "AnatomicRegionSequence": [], "ImageLaterality": "U",
        "BurnedInAnnotation": "NO", "PixelIntensityRelationship": "LOG", "PixelIntensityRelationshipSign": -1, "RescaleIntercept": 0, "RescaleSlope": 1,
        "RescaleType": "US", "LossyImageCompression": "00", "PresentationLUTShape": "INVERSE", "ImagerPixelSpacing": [0.2, 0.2], "DetectorType": "DIRECT",
        "AcquisitionContextSequence": [], "PatientOrientation": ["L", "F"],
    },
    sop.UltrasoundImageStorage: {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientOrientation": []},
    sop.UltrasoundMultiFrameImageStorage: {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientOrientation": []},
    sop.SecondaryCaptureImageStorage: {"ConversionType": "WSD", "PatientOrientation": []},
}  # fmt: skip


def hu_at(lps_mm: np.ndarray) -> np.ndarray:
    """Position ``(..., 3)`` -> Hounsfield units."""
    return lps_mm @ np.array([2.0, -3.0, 5.0]) + 40.0


def plane(position: np.ndarray, orientation: Sequence[float], shape: tuple[int, int], spacing: Sequence[float]) -> np.ndarray:
    """Where the pixels of a slice lie, ``(rows, columns, 3)``, in DICOM's axes."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    r, c = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    return position + r[..., None] * spacing[0] * column + c[..., None] * spacing[1] * row


def positions(n: int, origin: Sequence[float], orientation: Sequence[float], step: float) -> np.ndarray:
    """Places of the first pixels of ``n`` slices, ``(n, 3)``."""
    return np.array(origin) + np.arange(n)[:, None] * step * np.cross(orientation[:3], orientation[3:])


def new_object(sop_class: str, modality: str, series: str, *, patient: str = "Doe^John 4711", instance: int = 1) -> Dataset:
    """What every object has: patient, study, series and equipment. ``series`` is the SeriesInstanceUID; study and frame of reference follow from it."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, modality, str(instance)])
    dataset.PatientID = dataset.PatientName = patient
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyDate, dataset.StudyTime = "20200102", "101500"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series, "study"]), series
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = modality, 1, instance
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.DeviceSerialNumber, dataset.SoftwareVersions = "made up", "none", "0", "0"
    for keyword, value in CLASS_TAGS.get(sop_class, {}).items():
        setattr(dataset, keyword, value)
    return dataset


def set_pixels(dataset: Dataset, pixels: np.ndarray, photometric: str = "", bits: int = 0) -> None:
    """The image pixel module from ``(rows, columns)``, ``(rows, columns, 3)`` or the same with frames in front (``NumberOfFrames`` set by the caller)."""
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
        pixels = pixels if dataset.PhotometricInterpretation == "RGB" else convert_color_space(pixels, "RGB", "YBR_FULL")
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"


def make_series(
    folder: Path,
    *,
    n: int = 5,
    shape: tuple[int, int] = (12, 9),
    spacing: tuple[float, float] = (0.5, 0.8),
    step: float = 2.5,
    orientation: Sequence[float] = AXIAL,
    origin: Sequence[float] = (-10.0, 20.0, -30.0),
    patient: str = "Doe^John 4711",
    modality: str = "CT",
    uid: str | None = None,
    order: Sequence[int] | None = None,
    slopes: Sequence[float] = (1.0,),
    change: Change | None = None,
    pixels: np.ndarray | None = None,
    name: str = "IM{:04d}",
) -> Path:
    """Write a CT or MR series; ``order`` shuffles the names, ``change`` edits the data set of a slice before it is written (its slice number is given).

    Stored as signed 16 bits with intercept -1024; an MR series likewise, and its values are no Hounsfield units.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = uid or generate_uid(entropy_srcs=[str(folder), modality])
    sop_class = {"CT": sop.CTImageStorage, "MR": sop.MRImageStorage}[modality]
    numbers = list(order or range(n))
    for k, position in enumerate(positions(n, origin, orientation, step)):
        slope = slopes[k % len(slopes)]
        values = hu_at(plane(position, orientation, shape, spacing)) if pixels is None else pixels[..., k]
        dataset = new_object(sop_class, modality, series, patient=patient, instance=numbers[k] + 1)
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = generate_uid(entropy_srcs=[series, "frame"]), ""
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing), step
        dataset.ImageOrientationPatient = [float(f"{x:.10f}") for x in orientation]
        dataset.ImagePositionPatient = [float(f"{x:.6f}") for x in position]
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, slope, "HU" if modality == "CT" else "US"
        set_pixels(dataset, np.round((values + 1024) / slope).astype(np.int16))
        if change is not None:
            change(dataset, k)
        dataset.save_as(folder / name.format(numbers[k]), enforce_file_format=True)
    return folder


def make_picture(
    path: Path,
    pixels: np.ndarray,
    *,
    modality: str = "OT",
    sop_class: str = sop.SecondaryCaptureImageStorage,
    photometric: str = "",
    bits: int = 0,
    palette: np.ndarray | None = None,
    frame_time_ms: float = 0,
    change: Change | None = None,
    **tags: Any,
) -> Path:
    """Write a picture, ``(rows, columns[, 3])`` of uint8 or uint16, or with ``frame_time_ms`` a cine of ``(frames, rows, columns[, 3])``.

    ``palette`` ``(256, 3)`` makes the pixels indices; ``photometric="YBR_FULL"`` converts RGB; ``tags`` are set last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = new_object(sop_class, modality, generate_uid(entropy_srcs=[str(path), modality]))
    if frame_time_ms:
        dataset.NumberOfFrames, dataset.FrameTime, dataset.FrameIncrementPointer = len(pixels), frame_time_ms, 0x00181063
    set_pixels(dataset, pixels, "PALETTE COLOR" if palette is not None else photometric, bits)
    if palette is not None:
        for colour, table in zip(("Red", "Green", "Blue"), palette.T, strict=True):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [len(table), 0, 16])
            setattr(dataset, f"{colour}PaletteColorLookupTableData", (table.astype("<u2") * 257).tobytes())
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    if change is not None:
        change(dataset, 0)
    dataset.save_as(path, enforce_file_format=True)
    return path
