"""From DICOM files to an array with its place in the patient."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ...errors import DataError
from ..geometry import Grid
from .elements import integer, rescale_of, text
from .frames import is_mosaic, mosaic_of, rescale_of_frame, slices_of_frames, stack_of_frames
from .grid import grid_of_file, grid_of_slices, read_header
from .header import COLOURS, SECONDARY_CAPTURE, Header, parse_header
from .open import dicom_door, open_dicom
from .pixels import colour_pixels, grey_pixels

__all__ = ["DicomImage", "read_dicom"]

Array = NDArray[Any]

NO_FIXED_RANGE = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "XA"})
"""Modalities whose stored range says nothing."""


class DicomImage(NamedTuple):
    """A decoded picture, stack, volume, or frames in time."""

    array: Array
    """``(rows, columns, slices)`` or ``(rows, columns, slices, 3)``."""
    grid: Grid
    modality: str
    value_range: tuple[int, ...]
    hounsfield: bool
    n_padding: int = 0
    """Padding pixels, which were given the smallest real value of their slice."""


@dicom_door()
def read_dicom(files: Sequence[str]) -> DicomImage:
    """Decode one file, or the slices of one stack.

    Each slice or frame gets its own rescale. Padding pixels take the smallest real value of their slice. MONOCHROME1 is turned round; palettes and YBR
    become RGB.

    Args:
        files: one file, or the slices of one stack in any order; the result is ordered by position.

    Raises:
        DataError: a file that cannot be decoded, slices that are no regular stack, several stacks in one file.

    Example:
        >>> read_dicom(["slice.dcm"]).array.shape  # doctest: +SKIP
        (512, 512, 1)
    """
    if len(files) > 1:
        return _read_stack(files)
    dataset = open_dicom(files[0]).dataset
    header = parse_header(dataset, files[0], "PixelData" in dataset)
    grid = grid_of_file(dataset, header)
    if text(dataset, "PhotometricInterpretation") in COLOURS:
        colours, value_range = colour_pixels(dataset)
        return DicomImage(np.moveaxis(colours, 0, 2), grid, header.modality, value_range, False)
    return _read_grey(dataset, header, grid)


def _read_grey(dataset: Dataset, header: Header, grid: Grid) -> DicomImage:
    stored, padding = grey_pixels(dataset)
    order, rescale = list(range(len(stored))), [rescale_of(dataset)] * len(stored)
    if header.kind == "volume" and not is_mosaic(dataset):
        order = stack_of_frames(slices_of_frames(dataset, header.path, header.shape, header.n_frames))
        rescale = [rescale_of_frame(dataset, number) for number in range(len(stored))]
    array = np.empty((*header.shape, len(stored)), np.float32)
    for k, number in enumerate(order):
        array[:, :, k] = _values(stored[number], None if padding is None else padding[number], *rescale[number])
    if header.kind == "volume" and is_mosaic(dataset):
        array = mosaic_of(dataset).untile(array[:, :, 0])
    value_range = _storage_range(dataset, header) if set(rescale) == {(1.0, 0.0)} else ()
    return DicomImage(array, grid, header.modality, value_range, header.hounsfield, 0 if padding is None else int(padding.sum()))


def _storage_range(dataset: Dataset, header: Header) -> tuple[int, ...]:
    """Of pictures and cine that were stored for the eye; elsewhere 12 bits may hold values up to 300 or up to 4,095."""
    bits, signed = integer(dataset, "BitsStored", integer(dataset, "BitsAllocated", 16)), integer(dataset, "PixelRepresentation", 0)
    captured = text(dataset, "SOPClassUID").startswith(SECONDARY_CAPTURE) and bits <= 8
    for_the_eye = header.kind in ("picture", "frames") and (header.modality not in NO_FIXED_RANGE or captured)
    return (0, 2**bits - 1) if for_the_eye and not signed else ()


def _read_stack(files: Sequence[str]) -> DicomImage:
    headers = [read_header(path, number, len(files))[1] for number, path in enumerate(files, start=1)]
    grid, order = grid_of_slices(headers)
    header = headers[0]
    array = np.empty(grid.shape, np.float32)
    n_padding = 0
    for k, number in enumerate(order):
        try:
            dataset = open_dicom(files[number]).dataset
            if text(dataset, "PhotometricInterpretation") in COLOURS:
                raise DataError("The slice is in colour; expected grey slices in a stack: export the series as pictures.")
            stored, padding = grey_pixels(dataset)
            array[:, :, k] = _values(stored[0], None if padding is None else padding[0], *rescale_of(dataset))
            n_padding += 0 if padding is None else int(padding.sum())
        except DataError as error:
            raise DataError(f"Slice file {number + 1} of {len(files)} ({_instance(headers[number])}): {error}") from error
    return DicomImage(array, grid, header.modality, (), header.hounsfield, n_padding)


def _instance(header: Header) -> str:
    return header.slice.name if header.slice is not None else os.path.basename(header.path)


def _values(stored: Array, padding: Array | None, slope: float, intercept: float) -> Array:
    if slope == 0:
        raise DataError(f"The slice is rescaled by slope {slope:g}; expected another number than 0: export it again.")
    values = stored.astype(np.float64) * slope + intercept
    if padding is not None and padding.any() and not padding.all():
        values[padding] = values[~padding].min()
    if not np.isfinite(values).all() or np.abs(values).max() > np.finfo(np.float32).max:
        raise DataError("The rescaled pixels are not finite numbers; expected a slope and intercept that keep them so: export it again.")
    return values.astype(np.float32)
