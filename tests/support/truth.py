"""What other programs read from the same files: ITK for DICOM and NIfTI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import itk
import numpy as np

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def by_itk(files: str | Path | Sequence[str], pixel_type=itk.F) -> tuple[np.ndarray, np.ndarray]:
    """Array ``(rows, columns, slices[, 3])`` and affine ``(4, 4)`` from (row, column, slice) to RAS, as ITK has them; slices in the order given."""
    image = itk.imread(str(files) if isinstance(files, str | Path) else list(files), pixel_type)
    array = itk.array_from_image(image)
    array = array if array.ndim > 2 and image.GetImageDimension() == 3 else array[None]
    steps = np.array(itk.array_from_matrix(image.GetDirection())) * np.array(image.GetSpacing())
    affine = np.eye(4)
    n = image.GetImageDimension()
    affine[:n, :n], affine[:n, 3] = steps, image.GetOrigin()
    return np.moveaxis(array, 0, 2), TO_RAS @ affine[:, [1, 0, 2, 3]]


def directions(affine: np.ndarray) -> np.ndarray:
    """Unit vectors in DICOM's axes along which column index, row index and slice index grow, as the columns of ITK's direction matrix."""
    lps = (TO_RAS @ affine)[:3, :3][:, [1, 0, 2]]
    return lps / np.linalg.norm(lps, axis=0)
