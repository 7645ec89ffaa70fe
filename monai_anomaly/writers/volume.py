"""The anomaly map of a whole series as a NIfTI volume on the series' own grid."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import torch
from nibabel.fileholders import FileHolder
from numpy.typing import ArrayLike
from torch.nn.functional import interpolate

from ..errors import DataError, OptionError
from ..files import write_whole

__all__ = ["write_map_volume"]


def write_map_volume(path: str | Path, maps: ArrayLike | torch.Tensor, affine: ArrayLike, shape: Sequence[int]) -> Path:
    """Write the slice maps of one series as float32 NIfTI, voxel for voxel on the source grid.

    Each map is brought back from network resolution to the series' rows and columns (bilinear, pixel centres as in an image resize: the inverse of how
    the slice came in). The file holds (column, row, slice), MONAI's and ITK's order, in RAS+ millimetres, so viewers lay it over the series.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        maps: ``(S, h, w)``, slices in the series' order. NaN (a slice that was not scored) stays NaN.
        affine: ``(4, 4)`` from the index (row, column, slice, 1) of the series' voxels to RAS+ millimetres.
        shape: (rows, columns) or (rows, columns, slices) of the series.

    Returns:
        The path.

    Raises:
        DataError: shapes that do not fit, an affine that is no geometry, or a file that cannot be written.
        OptionError: another file ending.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_map_volume(Path(folder) / "map.nii.gz", np.zeros((5, 8, 8)), np.eye(4), (20, 30))
        ...     nib.load(path).shape
        (30, 20, 5)
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OptionError(f"The map volume is called {path.name}; expected a name that ends in .nii.gz or .nii.")
    values = (maps.detach() if isinstance(maps, torch.Tensor) else torch.from_numpy(np.array(maps, dtype=np.float32))).to(
        "cpu", torch.float32
    )
    if (
        values.ndim != 3
        or 0 in values.shape
        or len(shape) not in (2, 3)
        or min(shape) < 1
        or (len(shape) == 3 and shape[2] != values.shape[0])
    ):
        raise DataError(
            f"The maps have shape {tuple(values.shape)} and the series {tuple(shape)}; expected (S, h, w) and (rows, columns, S)."
        )
    to_world = np.asarray(affine, dtype=np.float64)
    if (
        to_world.shape != (4, 4)
        or not np.isfinite(to_world).all()
        or not np.allclose(to_world[3], (0, 0, 0, 1))
        or abs(np.linalg.det(to_world)) < 1e-9
    ):
        raise DataError(f"The affine of the series is {to_world.tolist()}; expected an invertible 4 x 4 matrix whose last row is 0 0 0 1.")

    size = (int(shape[0]), int(shape[1]))
    if tuple(values.shape[1:]) != size:
        # antialias changes nothing when enlarging; when shrinking it keeps a lesion thinner than the new pixels from falling between them.
        values = interpolate(values[:, None], size=size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
    # (slice, row, column) -> (column, row, slice); the matrix swaps its first two columns alike.
    volume = nib.Nifti1Image(values.numpy().transpose(2, 1, 0), to_world[:, [1, 0, 2, 3]])
    volume.header.set_xyzt_units("mm")
    volume.set_sform(volume.affine, code="scanner")
    if _is_orthogonal(to_world):
        volume.set_qform(volume.affine, code="scanner")

    def write(file: BinaryIO) -> None:
        if path.name.endswith(".gz"):
            # Neither name nor time in the header: the same maps give the same bytes. Level 1: noise-like floats gain nothing from more.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as compressed:
                _stream(volume, compressed)
        else:
            _stream(volume, file)

    return write_whole(path, write)


def _stream(volume: nib.Nifti1Image, file: Any) -> None:
    volume.to_file_map({"image": FileHolder(fileobj=file)})


def _is_orthogonal(affine: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    """Whether a rotation and a spacing say it all, which is what a qform can hold."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))
