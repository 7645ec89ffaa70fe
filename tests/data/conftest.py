"""DICOM series made in the test: the value of each pixel is a linear function of its place in the patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged, NormalizeIntensityd
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from monai_anomaly.data import CaseReader
from monai_anomaly.transforms import MarkEmptySlicesd, ResizeSlicesd, ScaleIntensityByModalityd, ToRGBd

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def hu_at(lps_mm: np.ndarray) -> np.ndarray:
    """Position ``(..., 3)`` -> Hounsfield units."""
    return lps_mm @ np.array([2.0, -3.0, 5.0]) + 40.0


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
    uid: str | None = None,
    order: Sequence[int] | None = None,
    slopes: Sequence[float] = (1.0,),
    change: Callable[[Dataset, int], None] | None = None,
    pixels: np.ndarray | None = None,
) -> Path:
    """Write a series; ``order`` shuffles the names, ``change`` edits the data set of a slice before it is written (its slice number is given)."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    frame = generate_uid()
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal = np.cross(row, column)
    names = list(order or range(n))
    for k in range(n):
        position = np.array(origin) + k * step * normal
        r, c = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
        where = position + r[..., None] * spacing[0] * column + c[..., None] * spacing[1] * row
        slope = slopes[k % len(slopes)]
        values = hu_at(where) if pixels is None else pixels[..., k]
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
        dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", patient, patient
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = generate_uid(), uid, frame
        dataset.InstanceNumber = names[k] + 1
        dataset.Rows, dataset.Columns = shape
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing), step
        dataset.ImageOrientationPatient = [float(f"{x:.10f}") for x in orientation]
        dataset.ImagePositionPatient = [float(f"{x:.6f}") for x in position]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, slope
        dataset.PixelData = np.round((values + 1024) / slope).astype("<i2").tobytes()
        if change is not None:
            change(dataset, k)
        dataset.save_as(folder / f"IM{names[k]:04d}", enforce_file_format=True)
    return folder


@pytest.fixture
def series() -> Callable[..., Path]:
    """Write a series into a folder."""
    return make_series


@pytest.fixture
def hu() -> Callable[[np.ndarray], np.ndarray]:
    """The value that a written series has at a place in the patient."""
    return hu_at


@pytest.fixture
def chain() -> Callable[[int], Any]:
    """The preprocessing of the bundles."""

    def make(size: int) -> Compose:
        return Compose(
            [
                LoadImaged(["image", "mask"], reader=CaseReader, ensure_channel_first=True, allow_missing_keys=True),
                ScaleIntensityByModalityd("image"),
                MarkEmptySlicesd("image"),
                ResizeSlicesd(["image", "mask"], size, allow_missing_keys=True),
                ToRGBd("image"),
                NormalizeIntensityd("image", subtrahend=[0.485, 0.456, 0.406], divisor=[0.229, 0.224, 0.225], channel_wise=True),
            ]
        )

    return make
