"""Masks from files, on the grid of their image: what viewers send."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...data.geometry import RAS_TO_LPS
from ...data.nifti import read_nifti
from ...errors import DataError
from ...transforms.grid import onto_grid

__all__ = ["read_mask"]


def read_mask(path: str | Path, affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Read the mask that a viewer sends, on the grid of its image; axes may be exchanged and reversed, nothing is resampled.

    Args:
        path: ``.nii``, ``.nii.gz`` or ``.nrrd`` (3D Slicer), or ``.bin``, the bare bytes in the voxel order of the image (OHIF).
        affine: ``(4, 4)`` of the image, from (row, column, slice) to RAS+ millimetres.
        shape: its rows, columns and slices.

    Returns:
        ``(rows, columns, slices)``, true where the file is not zero.

    Raises:
        DataError: another file, or another grid.

    Example:
        >>> read_mask("mask.nii.gz", np.eye(4), (20, 30, 5)).shape  # doctest: +SKIP
        (20, 30, 5)
    """
    name = Path(path).name
    if name.endswith(".bin"):
        voxels = np.fromfile(path, np.uint8)
        if voxels.size != np.prod(shape):
            raise DataError(f"The mask holds {voxels.size:,} voxels, the image {tuple(shape)}; expected one byte for each of its voxels.")
        return voxels.reshape(shape[1], shape[0], shape[2], order="F").transpose(1, 0, 2) != 0
    if name.endswith((".nii", ".nii.gz")):
        array, grid = read_nifti(path)
        there = grid.affine
    elif name.endswith(".nrrd"):
        array, there = _read_nrrd(path)
    else:
        raise DataError("The mask is no file that is known here; expected .nii.gz, .nii, .nrrd or .bin: set it in the viewer.")
    return np.asarray(onto_grid(array, there, affine, shape, names=("mask", "image")) != 0)


def _read_nrrd(path: str | Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError("The NRRD mask cannot be read; expected a whole label map: save it again.") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise DataError("The NRRD mask has several layers; expected one label map: do not allow overlapping segments, or send .nii.gz.")
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(1, 2, 0), (RAS_TO_LPS @ lps)[:, [1, 0, 2, 3]]
