"""The door through which every image comes in: a MONAI reader for image files, DICOM series and masks on their grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.data import ImageReader
from monai.utils import ensure_tuple
from monai.utils.enums import MetaKeys, SpaceKeys
from pydicom import dcmread

from ..errors import DataError
from .dicom import order_slices, parse_header, series_affine
from .formats import RASTER_FORMATS, file_format, reason
from .raster import read_raster

__all__ = ["MAX_VOXELS", "CaseReader", "volume_shape"]

MAX_VOXELS = 2**30
"""Largest volume that is decoded (4 GiB as float32): a small file can pretend to be much larger."""

Array = np.ndarray[Any, Any]


class _Source(NamedTuple):
    """What :meth:`CaseReader.read` hands to :meth:`CaseReader.get_data`: names only."""

    files: tuple[str, ...]


class CaseReader(ImageReader):
    """Read a case's image or mask as ``(row, column, slice[, channel])``, for MONAI's LoadImaged.

    =====================  =========================================================================================================
    an image file          ``(H, W, 1)`` or ``(H, W, 1, 3)``, uint8 or uint16; see :func:`monai_anomaly.data.raster.read_raster`
    files of one series    ``(rows, columns, slices)``, float32, each slice with its own rescale (CT: Hounsfield units), ordered by
                           position whatever the order of the names
    a NIfTI volume         ``(rows, columns, slices)``, float32, first two axes exchanged: (column, row, slice) is the order of ITK
                           and MONAI, in which masks are written
    =====================  =========================================================================================================

    With ``ensure_channel_first`` everything is ``(C, H, W, S)``. The metadata hold ``affine`` (``(4, 4)``, from (row, column, slice) to mm, right-anterior-
    superior; identity for image files), ``modality`` (``"CT"``, ``"MR"``, ...; ``""`` if the file does not say), ``value_range`` (storage range of image
    files, ``(0, 255)`` or ``(0, 65535)``; ``()`` for volumes), ``source_format`` and ``original_channel_dim``.

    In a bundle's JSON, ``"reader": "monai_anomaly.data.CaseReader"`` and ``"reader": "$mad.CaseReader"`` (after ``"$import monai_anomaly.data as mad"``)
    both work.
    LoadImage tries its other readers when ``read`` raises, so ``read`` only takes the names and every check raises in ``get_data``.

    Example:
        >>> from monai.transforms import LoadImaged
        >>> load = LoadImaged(["image", "mask"], reader=CaseReader, ensure_channel_first=True, allow_missing_keys=True)
        >>> load({"image": "scan.png"})["image"].shape  # doctest: +SKIP
        torch.Size([1, 300, 200, 1])
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Every name will do: the format is told by the content."""
        return True

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any) -> _Source:
        """Take the names; nothing is opened yet.

        Args:
            data: an image file, or the slice files of one series.
            kwargs: none are known; there for MONAI's signature.
        """
        return _Source(tuple(str(name) for name in ensure_tuple(data)))

    def get_data(self, img: _Source) -> tuple[Array, dict[str, Any]]:
        """Open, check and decode.

        Returns:
            The array and its metadata.

        Raises:
            DataError: the file or series cannot be used; the message says why.
        """
        form = file_format(img.files[0])
        if form == "DICOM":
            array, affine, modality = _read_series(img.files)
            return array, _meta(array, affine, modality, (), form)
        if len(img.files) > 1:
            kind = form or "of unknown format"
            raise DataError(
                f"The case lists {len(img.files)} files, the first of them {kind}; only DICOM slices can make up a volume: list one file."
            )
        if form in RASTER_FORMATS:
            pixels, value_range = read_raster(img.files[0])
            return pixels[:, :, None], _meta(pixels[:, :, None], np.eye(4), "", value_range, form)
        if form in ("NIfTI", "gzip"):
            array, affine = _read_nifti(img.files[0])
            return array, _meta(array, affine, "", (), "NIfTI")
        raise DataError(f"The file is {form or 'of unknown format'}; expected PNG, JPEG, BMP, TIFF, DICOM or NIfTI: convert it.")


def volume_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Rows, columns and slices of a NIfTI volume, from its header.

    Raises:
        DataError: it cannot be read, or is not three-dimensional.

    Example:
        >>> volume_shape("flair.nii.gz")  # doctest: +SKIP
        (110, 110, 87)
    """
    return _open_nifti(path)[1]


def _meta(array: Array, affine: Array, modality: str, value_range: tuple[int, ...], form: str) -> dict[str, Any]:
    return {
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.array(array.shape[:3]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if array.ndim == 4 else "no_channel",
        "modality": modality,
        "value_range": value_range,
        "source_format": form,
    }


def _read_series(files: Sequence[str]) -> tuple[Array, Array, str]:
    headers, pictures = [], {}
    for number, path in enumerate(files, start=1):
        try:
            dataset = dcmread(path)
            header = parse_header(dataset, path, "PixelData" in dataset)
            if header.shape[0] * header.shape[1] * len(files) > MAX_VOXELS:
                raise DataError(
                    f"A series of {len(files)} slices of {header.shape} pixels is too large; expected at most {MAX_VOXELS:,} voxels."
                )
            picture = dataset.pixel_array
            if picture.shape != header.shape:
                raise DataError(f"The pixels decode to {picture.shape}; the header says {header.shape}: export it again.")
            given_slope, given_intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
            slope = 1.0 if given_slope is None else float(given_slope)
            intercept = 0.0 if given_intercept is None else float(given_intercept)
            if not np.isfinite([slope, intercept]).all() or slope == 0:
                raise DataError(
                    f"The slice is rescaled by slope {slope} and intercept {intercept}; expected finite numbers, the slope not 0."
                )
        except DataError as error:
            raise DataError(f"Slice file {number} of {len(files)} ({os.path.basename(path)}): {error}") from error
        except Exception as error:  # pydicom and its decoders raise whatever a broken file makes them raise
            raise DataError(
                f"Slice file {number} of {len(files)} ({os.path.basename(path)}) cannot be decoded ({reason(error)}); expected whole pixel data in a transfer "
                "syntax that pydicom can decode: export it again, uncompressed if that is offered."
            ) from error
        headers.append(header)
        pictures[id(header)] = (picture * np.float64(slope) + intercept).astype(np.float32)
    ordered = order_slices(headers)
    return np.stack([pictures[id(header)] for header in ordered], axis=-1), series_affine(ordered), ordered[0].modality


def _open_nifti(path: str | os.PathLike[str]) -> tuple[Any, tuple[int, int, int]]:
    try:
        image: Any = nib.load(path)
        shape = tuple(int(n) for n in image.shape)
        kind = np.dtype(image.get_data_dtype())
    except Exception as error:  # nibabel raises whatever a broken file makes it raise
        raise DataError(
            f"The NIfTI file cannot be read ({reason(error)}); expected a whole .nii or .nii.gz file: export it again."
        ) from error
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(f"The NIfTI file has shape {shape}; expected three axes: save one volume.")
    if shape[0] * shape[1] * shape[2] > MAX_VOXELS or kind.kind not in "biuf":
        raise DataError(f"The NIfTI file has shape {shape} and type {kind}; expected at most {MAX_VOXELS:,} real numbers.")
    return image, (shape[1], shape[0], shape[2])


def _read_nifti(path: str | os.PathLike[str]) -> tuple[Array, Array]:
    image, shape = _open_nifti(path)
    try:
        array = np.asarray(image.dataobj, dtype=np.float32)
    except Exception as error:
        raise DataError(f"The NIfTI voxels cannot be read ({reason(error)}); expected a volume of {shape}: export it again.") from error
    affine = np.array(image.affine, dtype=float)
    if not np.isfinite(array).all() or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise DataError(
            "The NIfTI file has voxels or an affine that are not finite numbers, or no volume; expected both to be usable: export it again."
        )
    return array.transpose(1, 0, 2), affine[:, [1, 0, 2, 3]]
