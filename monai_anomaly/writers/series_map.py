"""The anomaly map of one case at full resolution, on the grid of its source."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ..data import Case
from ..errors import DataError
from ..transforms.grid import onto_grid

__all__ = ["MapGrid", "SeriesMap"]

_BLOCK = 16
"""Slices enlarged at once: of 512 x 512 pixels they are 16 MiB."""
_IN_MEMORY = 2**30
"""Bytes up to which a volume is held in memory; larger ones lie in a temporary file."""


class MapGrid(NamedTuple):
    """Where the slices of a case lie, and where its source does; the two differ in the order and direction of their axes only.

    Example:
        >>> MapGrid(np.eye(4), (20, 30, 5), np.eye(4), (20, 30, 5), in_patient=True).slice_shape
        (20, 30, 5)
    """

    slice_affine: NDArray[np.float64]
    """``(4, 4)`` from (row, column, slice) of the slices to RAS+ millimetres."""
    slice_shape: tuple[int, ...]
    """Rows, columns, slices."""
    source_affine: NDArray[np.float64]
    source_shape: tuple[int, ...]
    in_patient: bool
    """Not so of pictures and of frames that are time."""


@dataclass(frozen=True, eq=False)
class SeriesMap:
    """The map of one case, from slices of network resolution to the source's own voxels; made when it is first asked for, once for all who ask.

    Each slice is resized on its own to the source's rows and columns (bilinear, pixel centres as in an image resize: the inverse of how it came in), then
    axes are exchanged and reversed. No value becomes higher than its slice's highest. Slices are enlarged a few at a time into the one volume, which
    lies in a temporary file when it is larger than 1 GiB.

    Args:
        number: index into the list of cases.
        case: the case.
        maps: ``(S, h, w)`` float32 on the CPU, slices in the order in which they are shown; NaN where not scored.
        grid: where they lie.
        smoothing_mm: smoothing through the slices that ``maps`` underwent.
        scratch_dir: folder for the temporary file; default: the system's, which may be memory.

    Raises:
        DataError: when asked for, if shapes do not fit, the two grids are not the same, or there is no space for the temporary file.

    Example:
        >>> import torch
        >>> grid = MapGrid(np.eye(4), (20, 30, 5), np.eye(4), (20, 30, 5), in_patient=True)
        >>> SeriesMap(0, {"series": "a"}, torch.zeros(5, 8, 8), grid).source.shape
        (20, 30, 5)
    """

    number: int
    case: Case
    maps: Tensor
    grid: MapGrid
    smoothing_mm: float = 0.0
    scratch_dir: str | Path | None = None

    @cached_property
    def source(self) -> NDArray[np.float32]:
        """``(rows, columns, slices)`` of the source; writing it as (column, row, slice) is writing memory from front to back."""
        rows, columns, slices = self.grid.source_shape
        volume = _empty((slices, rows, columns), self.scratch_dir).transpose(1, 2, 0)
        target = self._slices_of(volume).transpose(2, 0, 1)
        if self.maps.ndim != 3 or len(self.maps) != len(target):
            raise DataError(
                f"The maps have shape {tuple(self.maps.shape)} and the slices {self.grid.slice_shape}; expected (S, h, w) and (rows, columns, S)."
            )
        for start in range(0, len(target), _BLOCK):
            target[start : start + _BLOCK] = _resized(self.maps[start : start + _BLOCK], target.shape[1:]).numpy()
        return volume

    @cached_property
    def slices(self) -> NDArray[np.float32]:
        """``(rows, columns, slices)`` as they are shown: another view of the memory of ``source``."""
        return self._slices_of(self.source)

    def _slices_of(self, volume: NDArray[Any]) -> NDArray[Any]:
        grid = self.grid
        return onto_grid(volume, grid.source_affine, grid.slice_affine, grid.slice_shape, names=("source", "stack of slices"))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    # antialias changes nothing when enlarging; when shrinking it keeps a lesion thinner than the new pixels from falling between them.
    resized = interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False, antialias=True)[:, 0]
    # Weights that sum to 1 only nearly could lift a value over its slice's highest, on which the threshold of findings relies.
    return resized.minimum(maps.amax(dim=(1, 2), keepdim=True))


def _empty(shape: tuple[int, ...], scratch_dir: str | Path | None) -> NDArray[np.float32]:
    n_bytes = 4 * int(np.prod(shape, dtype=np.int64))
    if n_bytes <= _IN_MEMORY:
        return np.empty(shape, dtype=np.float32)
    try:
        if scratch_dir is not None:
            Path(scratch_dir).mkdir(parents=True, exist_ok=True)
        # Without a name, so that even a killed run leaves nothing behind; it goes when the array goes.
        with tempfile.TemporaryFile(dir=scratch_dir) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)  # else a disk that fills up later would end the process without a word
            return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
    except OSError as error:
        raise DataError(
            f"The map of a series needs a temporary file of {n_bytes / 2**20:,.0f} MiB, which cannot be made ({error.strerror or error}); "
            "expected a folder with free space: choose another output folder."
        ) from error
