"""Look at every file of a folder once, in parallel, by header alone."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..errors import DataError
from .dicom import Header, look
from .formats import DICOM_FORMATS, RASTER_FORMATS, file_format, is_side_file
from .geometry import Grid
from .nifti import nifti_grid
from .raster import raster_shape

__all__ = ["Found", "scan"]

CHUNK = 128
PARALLEL_FROM = 1_000
"""Fewer files are read sooner than processes are started."""


class Found(NamedTuple):
    """One file."""

    path: str
    refused: str = ""
    """Why, or ``""``."""
    header: Header | None = None
    grid: Grid | None = None
    """Of a volume, or of frames in time."""
    picture: tuple[int, int] | None = None
    """Rows and columns of an image file."""
    identifiers: tuple[str, ...] = ()


def scan(files: Sequence[Path]) -> Iterator[Found]:
    """Look at files, in their order; side files (tables, notes, ``DICOMDIR``) are passed over.

    Args:
        files: at any number; what is kept of each is small.

    Example:
        >>> list(scan([]))
        []
    """
    paths = [str(path) for path in files]
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with tqdm(total=len(paths), desc="looking at files", unit="file", disable=len(paths) < PARALLEL_FROM) as bar:
        for found, n in _spread(chunks):
            bar.update(n)
            yield from found


def _spread(chunks: Sequence[list[str]]) -> Iterator[tuple[list[Found], int]]:
    processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(chunks) * CHUNK < PARALLEL_FROM or processes < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield from map(_look_at_chunk, chunks)
        return
    # Forked, as PyTorch's loaders are: a fresh interpreter would import torch and MONAI for seconds to read headers.
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(_look_at_chunk, chunks)


def _look_at_chunk(paths: list[str]) -> tuple[list[Found], int]:
    return [found for path in paths if (found := _look_at(path)) is not None], len(paths)


def _look_at(path: str) -> Found | None:
    """One file; ``None`` for a side file."""
    try:
        form = file_format(path)
    except DataError as error:
        return Found(path, str(error))
    name = os.path.basename(path)
    if name.upper().startswith("DICOMDIR") if form == "DICOM" else form in ("", "DICOM without preamble") and is_side_file(Path(name)):
        return None
    try:
        if form in RASTER_FORMATS:
            return Found(path, picture=raster_shape(path))
        if form in DICOM_FORMATS:
            seen = look(path)
            return Found(path, seen.refused, seen.header, seen.grid, identifiers=seen.identifiers)
        if form in ("NIfTI", "gzip"):
            return Found(path, grid=nifti_grid(path))
        return Found(path, "The content is none of PNG, JPEG, BMP, TIFF, DICOM and NIfTI: convert it or leave it out.")
    except DataError as error:
        return Found(path, str(error))
