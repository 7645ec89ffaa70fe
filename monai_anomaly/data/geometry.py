"""Grids of voxels: where they lie, how large they may be, and their spacing and plane in words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_PIXELS", "MAX_VOXELS", "RAS_TO_LPS", "Grid", "plane_of", "spacing_of"]

MAX_PIXELS = 50_000_000
"""Largest image that is decoded (a chest X-ray has about 10 million pixels): a small file can pretend to be much larger."""
MAX_VOXELS = 2**29
"""Largest volume that is decoded (2 GiB as float32; 2,048 slices of 512 x 512)."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From NIfTI's axes (right, anterior, superior) to DICOM's (left, posterior, superior), and back."""
PLANES = ("sagittal", "coronal", "axial")
OBLIQUE_DEGREES = 20.0


class Grid(NamedTuple):
    """Where the slices lie."""

    shape: tuple[int, int, int]
    """Rows, columns, slices."""
    affine: NDArray[np.float64]
    """``(4, 4)`` from (row, column, slice) to millimetres, right-anterior-superior; it says nothing without a place in the patient."""
    in_patient: bool


def spacing_of(affine: ArrayLike) -> tuple[float, float, float]:
    """Distances in mm between rows, columns and slices.

    Example:
        >>> spacing_of(np.diag([0.5, 0.5, 3.0, 1.0]))
        (0.5, 0.5, 3.0)
    """
    rows, columns, slices = np.linalg.norm(np.asarray(affine, dtype=float)[:3, :3], axis=0)
    return float(rows), float(columns), float(slices)


def plane_of(affine: ArrayLike) -> str:
    """The anatomical plane of the slices, by their normal; ``"oblique"`` if it is more than 20 degrees off all axes.

    Example:
        >>> plane_of(np.eye(4)), plane_of(np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]))
        ('axial', 'sagittal')
    """
    matrix = np.asarray(affine, dtype=float)
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    share = np.abs(normal) / max(float(np.linalg.norm(normal)), 1e-30)
    return PLANES[int(share.argmax())] if share.max() >= np.cos(np.radians(OBLIQUE_DEGREES)) else "oblique"
