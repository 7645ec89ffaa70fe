"""Where the slices of a file, or of the files of a stack, lie: by headers alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from ...errors import DataError
from ..geometry import MAX_VOXELS, Grid
from .frames import is_mosaic, mosaic_of, slices_of_frames, stack_of_frames
from .header import TAGS, Header, parse_header
from .open import dicom_door, open_dicom
from .stacks import check_stack, order_stack, stack_affine

__all__ = ["grid_of", "grid_of_file", "grid_of_slices", "read_header"]


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
        headers = [read_header(path, number, len(files))[1] for number, path in enumerate(files, start=1)]
        return grid_of_slices(headers)[0]
    dataset, header = read_header(files[0], 1, 1)
    return grid_of_file(dataset, header)


def read_header(path: str, number: int, n: int) -> tuple[Dataset, Header]:
    """Open one of ``n`` files, without its pixels.

    Args:
        path: the file.
        number: which one it is, from 1, for the message.
        n: how many there are.

    Raises:
        DataError: it cannot be used.

    Example:
        >>> read_header("absent.dcm", 2, 3)
        Traceback (most recent call last):
        monai_anomaly.errors.DataError: Slice file 2 of 3: The DICOM file cannot be read (No such file or directory); expected ...
    """
    try:
        opened = open_dicom(path, TAGS)
        return opened.dataset, parse_header(opened.dataset, path, opened.has_pixels, opened.pixel_bytes)
    except DataError as error:
        if n == 1:
            raise
        raise DataError(f"Slice file {number} of {n}: {error}") from error


def grid_of_file(dataset: Dataset, header: Header) -> Grid:
    """The grid of one file.

    Args:
        dataset: with or without its pixels.
        header: of the same file.

    Raises:
        DataError: frames or a mosaic without a usable place.

    Example:
        >>> grid_of_file(dataset, header).in_patient  # doctest: +SKIP
        True
    """
    if header.kind == "slice" and header.slice is not None:
        return Grid((*header.shape, 1), stack_affine([header.slice]), True)
    if header.kind == "volume":
        if is_mosaic(dataset):
            mosaic = mosaic_of(dataset if "PixelData" in dataset else open_dicom(header.path).dataset)
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
