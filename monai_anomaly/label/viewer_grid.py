"""Where viewers put the voxels of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PICTURE", "viewer_affine"]

PICTURE = np.array([[0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""Where they put an image without a place in the patient: columns along x and rows along y of DICOM's axes, 1 mm each; from (row, column, slice) to RAS."""


def viewer_affine(affine: NDArray[np.float64], in_patient: bool) -> NDArray[np.float64]:
    """From (row, column, slice) of an image to RAS+ millimetres, as viewers see it.

    Args:
        affine: ``(4, 4)``, the image's own.
        in_patient: whether that places it in the patient.

    Example:
        >>> viewer_affine(np.eye(4), False)[0].tolist()
        [0.0, -1.0, 0.0, 0.0]
    """
    return affine if in_patient else PICTURE
