"""A phantom as files: a series of CT Image Storage objects, and its mask as NIfTI on the same grid."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from .anatomy import ScanGrid
from .phantom import Phantom

__all__ = ["write_mask", "write_series"]

INTERCEPT_HU = -1024
DATE, TIME = "20200101", "120000"
NOTICE = "SYNTHETIC PHANTOM, NOT A PATIENT"


def write_series(folder: Path, phantom: Phantom, *, patient: str, entropy: list[str]) -> None:
    """Write one file per slice, ``CT-001.dcm`` being the lowest, as standard-conforming CT Image Storage.

    Args:
        folder: where to; it is made.
        phantom: the scan.
        patient: the made-up patient ID.
        entropy: words from which the UIDs are derived: equal words, equal bytes.
    """
    folder.mkdir(parents=True)
    dataset = _series_dataset(phantom.grid, patient, entropy)
    stored = (phantom.hu.astype(np.int32) - INTERCEPT_HU).astype("<i2")
    x, y, z = phantom.grid.origin_mm
    for index, pixels in enumerate(stored):
        uid = _uid(*entropy, "image", str(index))
        position = round(z + index * phantom.grid.step_mm, 2)
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.SOPInstanceUID = uid
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [x, y, position]
        dataset.SliceLocation = position
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(folder / f"CT-{index + 1:03d}.dcm", enforce_file_format=True)


def affine_ras(grid: ScanGrid) -> np.ndarray:
    """Affine from (column, row, slice) to millimetres in NIfTI's axes (right, anterior, superior).

    Example:
        >>> affine_ras(ScanGrid(8, 0.9, 5.0, (-115.0, -110.0, -4.0)))[:3, 3].tolist()
        [115.0, 110.0, -4.0]
    """
    affine = np.diag([-grid.spacing_mm, -grid.spacing_mm, grid.step_mm, 1.0])
    affine[:3, 3] = np.array([-1.0, -1.0, 1.0]) * grid.origin_mm
    return affine


def write_mask(path: Path, phantom: Phantom) -> None:
    """Write the mask as uint8 NIfTI (``.nii.gz``), axes (column, row, slice), with no time stamp in it."""
    image = _nifti(np.ascontiguousarray(phantom.mask.transpose(2, 1, 0)), affine_ras(phantom.grid))
    image.header.set_xyzt_units("mm")
    image.set_sform(affine_ras(phantom.grid), code=1)
    image.set_qform(affine_ras(phantom.grid), code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _nifti(array: np.ndarray, affine: np.ndarray) -> Any:
    kind: Any = nib.nifti1.Nifti1Image  # nibabel carries no types for it
    return kind(array, affine)


def _uid(*words: str) -> UID:
    return generate_uid(entropy_srcs=["monai_anomaly head CT phantom", *words])


def _series_dataset(grid: ScanGrid, patient: str, entropy: list[str]) -> Dataset:
    """Everything that the slices of a series share; nothing in it depends on whether the patient is ill."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "MONAI_ANOMALY"
    ds = Dataset()
    ds.file_meta = meta
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = CTImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = DATE
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = TIME
    ds.AccessionNumber = ""
    ds.Modality = "CT"
    ds.Manufacturer = "monai_anomaly"
    ds.ManufacturerModelName = "head CT phantom"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = ds.SeriesDescription = ds.ImageComments = NOTICE
    ds.PatientName = patient.replace("-", "^")
    ds.PatientID = patient
    ds.PatientBirthDate = ""
    ds.PatientSex = ""
    ds.BodyPartExamined = "HEAD"
    ds.QualityControlImage = "YES"
    ds.BurnedInAnnotation = "NO"
    ds.KVP = None
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = _uid(*entropy, "study")
    ds.SeriesInstanceUID = _uid(*entropy, "series")
    ds.FrameOfReferenceUID = _uid(*entropy, "frame")
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.AcquisitionNumber = 1
    ds.PixelSpacing = [grid.spacing_mm, grid.spacing_mm]
    ds.SliceThickness = grid.step_mm
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = grid.shape[1:]
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = INTERCEPT_HU, 1, "HU"
    ds.WindowCenter, ds.WindowWidth = 40, 80
    return ds
