"""A grid in words: spacing and plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["RAS_TO_LPS", "plane_of", "spacing_of"]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From NIfTI's axes (right, anterior, superior) to DICOM's (left, posterior, superior), and back."""
PLANES = ("sagittal", "coronal", "axial")
OBLIQUE_DEGREES = 20.0


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
