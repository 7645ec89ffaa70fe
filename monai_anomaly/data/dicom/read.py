"""From DICOM files to an array with its place in the patient."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ...errors import DataError
from .elements import identifiers, integer, rescale_of, text
from .frames import is_mosaic, mosaic_of, rescale_of_frame, slices_of_frames, stack_of_frames
from .header import COLOURS, MAX_VOXELS, SECONDARY_CAPTURE, TAGS, Header, parse_header
from .open import dicom_door, open_dicom
from .pixels import colour_pixels, grey_pixels
from .stacks import check_stack, order_stack, stack_affine

__all__ = ["DicomImage", "Grid", "Look", "grid_of", "grid_of_slices", "look", "read_dicom"]

Array = NDArray[Any]

NO_FIXED_RANGE = frozenset({"CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "XA"})
"""Modalities whose stored range says nothing."""


class Grid(NamedTuple):
    """Where the slices lie."""

    shape: tuple[int, int, int]
    """Rows, columns, slices."""
    affine: NDArray[np.float64]
    """``(4, 4)`` from (row, column, slice) to millimetres, right-anterior-superior; it says nothing without a place in the patient."""
    in_patient: bool


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


class Look(NamedTuple):
    """What a file shows by its header alone."""

    header: Header | None
    """``None`` if it is refused."""
    grid: Grid | None
    """Of anything but a slice, whose grid is that of its stack."""
    refused: str
    """Why, or ``""``."""
    identifiers: tuple[str, ...]
    """Names, identifiers and dates in the header, to keep them out of what is shown."""


def look(path: str, keep_ids: bool = False) -> Look:
    """Tell what a DICOM file is; nothing is decoded, nothing raised.

    Args:
        path: the file.
        keep_ids: name patients and series by their identifiers instead of pseudonyms.

    Example:
        >>> look("absent.dcm").refused
        'The DICOM file cannot be read (No such file or directory); expected a whole DICOM file: export it again.'
    """
    known: tuple[str, ...] = ()
    try:
        with dicom_door("header"):
            opened = open_dicom(path, TAGS)
            known = tuple(identifiers(opened.dataset))
            header = parse_header(opened.dataset, path, opened.has_pixels, opened.pixel_bytes, keep_ids)
            return Look(header, None if header.kind == "slice" else _grid(opened.dataset, header), "", known)
    except DataError as error:
        return Look(None, None, str(error), known)


@dicom_door()
def grid_of(files: Sequence[str]) -> Grid:
    """The grid of a case, from headers alone.

    Args:
        files: one file, or the slices of one stack in any order.

    Raises:
        DataError: as :func:`read_dicom`, as far as headers tell.

    Example:
        >>> grid_of(["slice.dcm"]).shape  # doctest: +SKIP
        (512, 512, 1)
    """
    if len(files) > 1:
        headers = [_header(path, number, len(files))[1] for number, path in enumerate(files, start=1)]
        return grid_of_slices(headers)[0]
    dataset, header = _header(files[0], 1, 1)
    return _grid(dataset, header)


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
    dataset = _whole(files[0])
    header = parse_header(dataset, files[0], "PixelData" in dataset)
    grid = _grid(dataset, header)
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
    headers = [_header(path, number, len(files))[1] for number, path in enumerate(files, start=1)]
    grid, order = grid_of_slices(headers)
    header = headers[0]
    array = np.empty(grid.shape, np.float32)
    n_padding = 0
    for k, number in enumerate(order):
        try:
            dataset = _whole(files[number])
            if text(dataset, "PhotometricInterpretation") in COLOURS:
                raise DataError("The slice is in colour; expected grey slices in a stack: export the series as pictures.")
            stored, padding = grey_pixels(dataset)
            array[:, :, k] = _values(stored[0], None if padding is None else padding[0], *rescale_of(dataset))
            n_padding += 0 if padding is None else int(padding.sum())
        except DataError as error:
            raise DataError(f"Slice file {number + 1} of {len(files)} ({_instance(headers[number])}): {error}") from error
    return DicomImage(array, grid, header.modality, (), header.hounsfield, n_padding)


def _whole(path: str) -> Dataset:
    return open_dicom(path).dataset


def _header(path: str, number: int, n: int) -> tuple[Dataset, Header]:
    try:
        opened = open_dicom(path, TAGS)
        return opened.dataset, parse_header(opened.dataset, path, opened.has_pixels, opened.pixel_bytes)
    except DataError as error:
        if n == 1:
            raise
        raise DataError(f"Slice file {number} of {n}: {error}") from error


def _grid(dataset: Dataset, header: Header) -> Grid:
    if header.kind == "slice" and header.slice is not None:
        return Grid((*header.shape, 1), stack_affine([header.slice]), True)
    if header.kind == "volume":
        if is_mosaic(dataset):
            mosaic = mosaic_of(dataset if "PixelData" in dataset else _whole(header.path))
            return Grid(mosaic.shape, mosaic.affine, True)
        slices = slices_of_frames(dataset, header.path, header.shape, header.n_frames)
        order = stack_of_frames(slices)
        return Grid((*header.shape, len(order)), stack_affine([slices[k] for k in order]), True)
    return Grid((*header.shape, header.n_frames), np.eye(4), False)


def grid_of_slices(headers: Sequence[Header]) -> tuple[Grid, list[int]]:
    """The grid of a stack, and the files' indices in the order of their positions.

    Args:
        headers: of two or more files.

    Raises:
        DataError: they are not the slices of one regular stack.

    Example:
        >>> grid_of_slices(headers)[1]  # doctest: +SKIP
        [2, 0, 1]
    """
    slices = []
    for header in headers:
        if header.slice is None:
            raise DataError(
                f"A file of {len(headers)} is a {header.kind} of its own; expected single slices in a list of files: make a case of it."
            )
        slices.append(header.slice)
    for name, what in (("series_key", "series"), ("modality", "modalities")):
        n = len({getattr(header, name) for header in headers})
        if n > 1:
            raise DataError(f"The {len(headers)} slices belong to {n} {what}; expected one: make a case of each.")
    if len(headers) * headers[0].shape[0] * headers[0].shape[1] > MAX_VOXELS:
        raise DataError(
            f"{len(headers)} slices of {headers[0].shape[0]} x {headers[0].shape[1]} pixels are too many; expected at most {MAX_VOXELS:,} voxels."
        )
    stack = order_stack(slices)
    check_stack(stack)
    index = {id(one): number for number, one in enumerate(slices)}
    return Grid((*headers[0].shape, len(stack)), stack_affine(stack), True), [index[id(one)] for one in stack]


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
