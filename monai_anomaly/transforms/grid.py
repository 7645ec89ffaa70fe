"""Voxel grids that differ in the order and direction of their axes: exchanging and reversing, never resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..errors import DataError

__all__ = ["onto_grid", "reordered", "reordered_affine", "usable_affine"]

Volume = TypeVar("Volume", NDArray[Any], Tensor)

GRID_TOLERANCE = 0.01
"""How far, in voxels, two grids that are called the same may lie apart."""
FLATTEST = 1e-6
"""Smallest volume of the body that three voxel steps span, each taken as 1 long."""


def usable_affine(affine: ArrayLike, name: str) -> NDArray[np.float64]:
    """The affine as float64, if it places voxels in space.

    Args:
        affine: ``(4, 4)``, voxel indices to mm.
        name: whose it is, for the message.

    Raises:
        DataError: it does not.

    Example:
        >>> usable_affine(np.eye(4), "image").shape
        (4, 4)
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.allclose(matrix[3], (0, 0, 0, 1)):
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        if lengths.all() and abs(np.linalg.det(matrix[:3, :3] / lengths)) > FLATTEST:
            return matrix
    raise DataError(
        f"The affine of the {name} is {matrix.tolist()}; expected an invertible 4 x 4 matrix whose last row is 0 0 0 1: export it again."
    )


def reordered(volume: Volume, order: NDArray[Any]) -> Volume:
    """What nibabel's ``apply_orientation`` does, for the last three axes, of tensors too; a view where that is possible.

    Args:
        volume: ``(..., i, j, k)``.
        order: ``(3, 2)``, for each of i, j and k the axis that it becomes, and -1 if it is reversed.

    Example:
        >>> reordered(np.zeros((1, 5, 6, 7)), np.array([[1, 1], [0, -1], [2, 1]])).shape
        (1, 6, 5, 7)
    """
    lead: int = volume.ndim - 3
    backwards = tuple(lead + axis for axis in range(3) if order[axis, 1] < 0)
    axes = [*range(lead), *(lead + int(axis) for axis in np.argsort(order[:, 0]))]
    if isinstance(volume, Tensor):
        return (volume.flip(backwards) if backwards else volume).permute(axes)
    return np.flip(volume, backwards).transpose(axes)


def reordered_affine(affine: NDArray[np.float64], order: NDArray[Any], shape: Sequence[int]) -> NDArray[np.float64]:
    """The affine of a reordered volume, ``shape`` being (i, j, k) before.

    Example:
        >>> reordered_affine(np.eye(4), np.array([[0, -1], [1, 1], [2, 1]]), (5, 6, 7))[0].tolist()
        [-1.0, 0.0, 0.0, 4.0]
    """
    return affine @ inv_ornt_aff(order, shape)


def onto_grid(
    volume: Volume, affine: ArrayLike, grid_affine: ArrayLike, grid_shape: Sequence[int], names: tuple[str, str] = ("volume", "source")
) -> Volume:
    """Bring a volume to another voxel order of its own grid.

    Args:
        volume: ``(..., i, j, k)``.
        affine: ``(4, 4)``, its indices to mm.
        grid_affine: ``(4, 4)``, of the order wanted.
        grid_shape: its (i, j, k).
        names: what the two are called in messages.

    Raises:
        DataError: they are not the same grid, or an affine is none.

    Example:
        >>> mirrored = np.diag([-1.0, 1.0, 1.0, 1.0])
        >>> mirrored[0, 3] = 2
        >>> onto_grid(np.arange(3).reshape(3, 1, 1), mirrored, np.eye(4), (3, 1, 1)).ravel().tolist()
        [2, 1, 0]
    """
    here, there = usable_affine(affine, names[0]), usable_affine(grid_affine, names[1])
    shape = tuple(int(n) for n in grid_shape)
    order = io_orientation(np.linalg.inv(there) @ here)
    if np.isnan(order).any():
        raise DataError(
            f"The axes of the {names[0]} cannot be matched with those of the {names[1]}; expected the same grid: export them again."
        )
    moved = reordered(volume, order)
    if tuple(moved.shape[-3:]) != shape:
        raise DataError(
            f"The {names[0]} has (rows, columns, slices) {tuple(moved.shape[-3:])}, the {names[1]} {shape}; "
            "expected the same grid: take two that belong together, or export them again."
        )
    corners = np.array([[i, j, k, 1] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)], dtype=float).T
    apart = np.abs(np.linalg.inv(there) @ reordered_affine(here, order, volume.shape[-3:]) @ corners - corners).max()
    if apart > GRID_TOLERANCE:
        raise DataError(
            f"The {names[0]} lies up to {apart:.2f} voxels beside the {names[1]}; "
            "expected the same grid: take two that belong together, or export them again."
        )
    return moved
