"""The door through which every image comes in: a MONAI reader for image files, DICOM, NIfTI, and masks on their grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data import ImageReader
from monai.utils import ensure_tuple
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray

from ..errors import DataError
from .dicom import grid_of, read_dicom
from .formats import DICOM_FORMATS, RASTER_FORMATS, Format, file_format
from .geometry import Grid
from .nifti import nifti_grid, read_nifti
from .raster import raster_shape, read_raster

__all__ = ["CaseReader", "case_grid"]

Array = NDArray[Any]


class CaseReader(ImageReader):
    """Read a case's image or mask as ``(row, column, slice[, channel])``, for MONAI's LoadImaged.

    =====================  =========================================================================================================
    an image file          ``(H, W, 1)`` or ``(H, W, 1, 3)``, uint8 or uint16; see :func:`monai_anomaly.data.raster.read_raster`
    DICOM slices           ``(rows, columns, slices)``, float32, each slice with its own rescale (CT: Hounsfield units), ordered by
                           position whatever the order of the names; one regular stack, or an error
    one DICOM file         enhanced multi-frame and mosaic as a volume, frames in time (cine) as slices without a place, a picture as
                           one slice; palettes and YBR as ``(rows, columns, frames, 3)`` RGB; see :func:`monai_anomaly.data.dicom.read_dicom`
    a NIfTI volume         ``(rows, columns, slices)``, float32, first two axes exchanged: (column, row, slice) is the order of ITK
                           and MONAI, in which masks are written
    =====================  =========================================================================================================

    With ``ensure_channel_first`` everything is ``(C, H, W, S)``. The metadata hold ``affine`` (``(4, 4)``, from (row, column, slice) to mm, right-anterior-
    superior), ``geometry`` (``"patient"``; ``"none"`` for pictures and frames in time, whose affine is the identity; ``"unknown"`` for a NIfTI volume with
    neither sform nor qform), ``modality`` (``"CT"``, ``"MR"``, ...;
    ``""`` if the file does not say), ``units`` (``"HU"`` or ``""``), ``value_range`` (storage range of pictures such as ``(0, 255)``; ``()`` where it says
    nothing), ``source_format``, ``padding_pixels`` and ``original_channel_dim``.

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

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any) -> tuple[str, ...]:
        """Take the names; nothing is opened yet.

        Args:
            data: an image file, or the slice files of one stack.
            kwargs: none are known; there for MONAI's signature.
        """
        return tuple(str(name) for name in ensure_tuple(data))

    def get_data(self, img: Sequence[str]) -> tuple[Array, dict[str, Any]]:
        """Open, check and decode.

        Args:
            img: what :meth:`read` took.

        Returns:
            The array and its metadata.

        Raises:
            DataError: the file or series cannot be used; the message says why.
        """
        form = _format(img)
        if form in DICOM_FORMATS:
            image = read_dicom(img)
            units = "HU" if image.hounsfield else ""
            return image.array, _meta(image.array, image.grid, "DICOM", image.modality, image.value_range, units, image.n_padding)
        if form in RASTER_FORMATS:
            pixels, value_range = read_raster(img[0])
            array = pixels[:, :, None]
            return array, _meta(array, _flat(array.shape[:2]), form, value_range=value_range)
        array, place = read_nifti(img[0])
        return array, _meta(array, place, "NIfTI")


def case_grid(files: Sequence[str]) -> Grid:
    """Shape and place of a case, from headers alone.

    Args:
        files: an image file, a volume, or the slice files of one stack.

    Raises:
        DataError: as :meth:`CaseReader.get_data`, as far as headers tell.

    Example:
        >>> case_grid(["flair.nii.gz"]).shape  # doctest: +SKIP
        (110, 110, 87)
    """
    form = _format(files)
    if form in DICOM_FORMATS:
        return grid_of(files)
    return _flat(raster_shape(files[0])) if form in RASTER_FORMATS else nifti_grid(files[0])


def _format(files: Sequence[str]) -> Format:
    form = file_format(files[0])
    if len(files) > 1 and form not in DICOM_FORMATS:
        kind = form or "of unknown format"
        raise DataError(
            f"The case lists {len(files)} files, the first of them {kind}; only DICOM slices can make up a volume: list one file."
        )
    if form in (*DICOM_FORMATS, *RASTER_FORMATS, "NIfTI", "gzip"):
        return form
    raise DataError(f"The file is {form or 'of unknown format'}; expected PNG, JPEG, BMP, TIFF, DICOM or NIfTI: convert it.")


def _flat(shape: Sequence[int]) -> Grid:
    return Grid((shape[0], shape[1], 1), np.eye(4), False)


def _meta(
    array: Array, place: Grid, form: str, modality: str = "", value_range: tuple[int, ...] = (), units: str = "", n_padding: int = 0
) -> dict[str, Any]:
    return {
        MetaKeys.AFFINE: place.affine,
        MetaKeys.ORIGINAL_AFFINE: place.affine.copy(),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.SPATIAL_SHAPE: np.array(array.shape[:3]),
        MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if array.ndim == 4 else "no_channel",
        "geometry": "patient" if place.in_patient else "unknown" if form == "NIfTI" else "none",
        "modality": modality,
        "units": units,
        "value_range": value_range,
        "source_format": form,
        "padding_pixels": n_padding,
    }
