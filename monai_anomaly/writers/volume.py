"""The anomaly map of a whole series as a NIfTI volume on the series' own grid."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from numpy.typing import ArrayLike, NDArray

from ..data import Case
from ..data.formats import file_format
from ..data.nifti import UNITS_MM, NiftiSpace, nifti_space
from ..errors import DataError, OptionError, reason
from ..files import safe_name, write_whole
from ..transforms.grid import onto_grid, usable_affine
from .series import SeriesWriter
from .series_map import SeriesMap

__all__ = ["SaveVolumes", "read_map_volume", "write_map_volume"]

logger = logging.getLogger(__name__)


class SaveVolumes(SeriesWriter):
    """The map of each series as NIfTI, voxel for voxel on the grid of its source; see :class:`AssembleSeries`.

    Pictures and frames that are time have no place in the patient and get no volume. One that was read from NIfTI says in its header what that file says:
    the same unit, and no place where the file has none.

    Args:
        output_dir: folder for the volumes, named after the series.
    """

    def __init__(self, output_dir: str | Path):
        self.output_dir = Path(output_dir)
        self.start()

    def start(self) -> None:
        """A run begins."""
        self._n_volumes = self._n_others = self._n_unplaced = 0

    def add(self, series: SeriesMap) -> None:
        """Write the volume of a series.

        Args:
            series: its map.
        """
        space = _space_of(series.case)
        if not (series.grid.in_patient or space):
            self._n_others += 1
            return
        file = self._file(series.case.get("series", str(series.number)))
        write_map_volume(file, series.source, series.grid.source_affine, space)
        self._n_volumes += 1
        self._n_unplaced += not series.grid.in_patient

    def remove(self, case: Case, slices: Iterable[int]) -> None:
        """Remove the volume of a series, if there is one.

        Args:
            case: the case.
            slices: its slices.
        """
        self._file(case["series"]).unlink(missing_ok=True)

    def finish(self) -> None:
        """Say what was written."""
        if self._n_volumes:
            logger.info("Wrote the map volumes of %d series: %s", self._n_volumes, self.output_dir)
        if self._n_unplaced:
            logger.warning(
                "%d NIfTI volumes do not say where they lie in the patient (neither sform nor qform): their maps lie on the same voxels and say no more, and "
                "their findings have no position; expected a place: convert the scans again.", self._n_unplaced,
            )  # fmt: skip
        if self._n_others:
            logger.info("%d cases have no place in the patient (pictures, frames in time) and no map volume.", self._n_others)

    def _file(self, series: str) -> Path:
        return self.output_dir / f"{safe_name(series)}.nii.gz"


def _space_of(case: Case) -> NiftiSpace | None:
    """Of a case that is a NIfTI volume what its header says, if it can still be read."""
    image = case.get("image")
    with suppress(DataError):
        if isinstance(image, str) and file_format(image) in ("NIfTI", "gzip"):
            return nifti_space(image)
    return None


def write_map_volume(path: str | Path, volume: ArrayLike, affine: ArrayLike, space: NiftiSpace | None = None) -> Path:
    """Write the map of one series as float32 NIfTI, or its mask as uint8.

    The file holds (column, row, slice), MONAI's and ITK's order, in RAS+ millimetres, so viewers lay it over the series; for a series that was read from NIfTI
    these are the axes and the affine of that file.

    Args:
        path: ends in ``.nii.gz`` or ``.nii``.
        volume: ``(rows, columns, slices)`` of the source; NaN (a slice that was not scored) stays NaN. Of bool it is a mask, of 0 and 1.
        affine: ``(4, 4)`` from the index (row, column, slice, 1) of the source's voxels to RAS+ millimetres.
        space: the unit in which the header says so; not placed, it says the spacing alone. Default: mm, placed.

    Returns:
        The path.

    Raises:
        DataError: a volume that is none, an affine that is no geometry, or a file that cannot be written.
        OptionError: another file ending.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_map_volume(Path(folder) / "map.nii.gz", np.zeros((20, 30, 5)), np.eye(4))
        ...     nib.load(path).shape
        (30, 20, 5)
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OptionError(f"The map volume is called {path.name}; expected a name that ends in .nii.gz or .nii.")
    values = np.asarray(volume)
    values = values.astype(np.uint8 if values.dtype == np.bool_ else np.float32, copy=False)
    if values.ndim != 3 or not values.size:
        raise DataError(f"The map volume has shape {values.shape}; expected (rows, columns, slices).")
    to_world = usable_affine(affine, "series")
    # The matrix swaps its first two columns as the array does its axes.
    space = space or NiftiSpace()
    in_file = np.vstack([to_world[:3] / UNITS_MM[space.unit], to_world[3:]])[:, [1, 0, 2, 3]]
    image = nib.Nifti1Image(values.transpose(1, 0, 2), in_file if space.placed else None)
    image.header.set_xyzt_units(space.unit)
    if space.placed:
        image.set_sform(image.affine, code="scanner")
        if is_orthogonal(to_world):
            image.set_qform(image.affine, code="scanner")
    else:
        image.header.set_zooms(np.linalg.norm(in_file[:3, :3], axis=0))

    def write(file: BinaryIO) -> None:
        if path.name.endswith(".gz"):
            # Neither name nor time in the header: the same maps give the same bytes. Level 1: noise-like floats gain nothing from more.
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=file, mtime=0) as compressed:
                _stream(image, compressed)
        else:
            _stream(image, file)

    return write_whole(path, write)


def _stream(image: nib.Nifti1Image, file: Any) -> None:
    image.to_file_map({"image": FileHolder(fileobj=file)})


def read_map_volume(
    path: str | Path, affine: ArrayLike, shape: Sequence[int], names: tuple[str, str] = ("map", "image")
) -> NDArray[np.float32]:
    """Read a map or a mask from NIfTI, voxel for voxel on the grid of its image: axes are exchanged and reversed, nothing is resampled.

    Args:
        path: the file.
        affine: ``(4, 4)`` of the image, from (row, column, slice) to RAS+ millimetres.
        shape: its rows, columns and slices.
        names: what the two are called in messages.

    Returns:
        ``(rows, columns, slices)``; NaN (slices that were not scored) stays NaN.

    Raises:
        DataError: it cannot be read, or does not lie on the grid of the image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_map_volume(Path(folder) / "map.nii.gz", np.zeros((20, 30, 5)), np.eye(4))
        ...     read_map_volume(path, np.eye(4), (20, 30, 5)).shape
        (20, 30, 5)
    """
    try:
        file: Any = nib.load(path)
        values, there = np.asarray(file.dataobj, np.float32), file.affine
        there[:3] *= UNITS_MM[nifti_space(path).unit]
    except Exception as error:  # nibabel and zlib raise whatever a damaged file makes them raise
        raise DataError(
            f"The {names[0]} cannot be read as NIfTI ({reason(error)}); expected a map or a mask of the {names[1]}: name another file, or have it made anew."
        ) from error
    return onto_grid(values, there, affine, shape, names)


def is_orthogonal(affine: NDArray[np.float64]) -> bool:
    """Whether a rotation and a spacing say it all, which is what a qform can hold.

    Args:
        affine: ``(4, 4)``.

    Example:
        >>> is_orthogonal(np.diag([1.0, -2.0, 3.0, 1.0]))
        True
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))
