"""NIfTI volumes from strangers: checked by their headers before anything is allocated."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from numpy.typing import NDArray

from ..errors import DataError, reason
from .geometry import MAX_VOXELS, Grid

__all__ = ["UNITS_MM", "NiftiSpace", "nifti_grid", "nifti_space", "read_nifti"]

Array = NDArray[Any]

MAX_OFFSET = 16 * 2**20
"""Largest header with extensions, in bytes."""
BIG_BYTES, MAX_RATIO = 256 * 2**20, 200
"""A volume of more than so many bytes must not be compressed more than so many times: real scans are not."""

UNITS_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
"""Units that a header may name, in millimetres."""
UNIT_CODES = {1: "meter", 2: "mm", 3: "micron"}


class NiftiSpace(NamedTuple):
    """What a header says about its own affine.

    Example:
        >>> NiftiSpace().unit
        'mm'
    """

    unit: str = "mm"
    """One of :data:`UNITS_MM`; also where the header does not say."""
    placed: bool = True
    """There is an sform or a qform. Else readers make up a place, each another one."""


def nifti_grid(path: str | os.PathLike[str]) -> Grid:
    """The grid of a NIfTI volume in mm, from its header: first two axes exchanged, (row, column, slice) for its (column, row, slice).

    A volume with neither sform nor qform has no place in the patient; of its affine the spacing alone is the file's.

    Raises:
        DataError: it cannot be read, is not one three-dimensional volume of real numbers, is too large, or has no usable affine.

    Example:
        >>> nifti_grid("flair.nii.gz").shape  # doctest: +SKIP
        (110, 110, 87)
    """
    with _opened(path) as file:
        return _parse(file, os.path.getsize(path))[1]


def nifti_space(path: str | os.PathLike[str]) -> NiftiSpace:
    """The unit of a NIfTI volume's affine, and whether it says where the voxels lie.

    Raises:
        DataError: as :func:`nifti_grid`.

    Example:
        >>> nifti_space("flair.nii.gz")  # doctest: +SKIP
        NiftiSpace(unit='mm', placed=True)
    """
    with _opened(path) as file:
        return _space(_parse(file, os.path.getsize(path))[0])


def _space(image: Any) -> NiftiSpace:
    header = image.header
    return NiftiSpace(UNIT_CODES.get(int(header["xyzt_units"]) & 7, "mm"), int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0)


def read_nifti(path: str | os.PathLike[str]) -> tuple[Array, Grid]:
    """Read a NIfTI volume.

    Returns:
        ``(rows, columns, slices)``, float32, and its grid.

    Raises:
        DataError: as :func:`nifti_grid`, or voxels that are missing, damaged or not finite.

    Example:
        >>> read_nifti("flair.nii.gz")[0].shape  # doctest: +SKIP
        (110, 110, 87)
    """
    with _opened(path) as file:
        image, grid = _parse(file, os.path.getsize(path))
        try:
            array = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
            file.read(1)  # behind the last voxel gzip compares its checksum
        except Exception as error:  # nibabel and zlib raise whatever a broken file makes them raise
            raise DataError(
                f"The NIfTI voxels cannot be read ({reason(error)}); expected a volume of {grid.shape}: export it again."
            ) from error
    if not np.isfinite(array).all():
        raise DataError("The NIfTI volume has voxels that are not finite numbers; expected numbers everywhere: export it again.")
    return array.transpose(1, 0, 2), grid


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    try:
        with open(path, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                file.seek(0)
                with gzip.GzipFile(fileobj=file) as unzipped:
                    yield unzipped
            else:
                file.seek(0)
                yield file
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"The NIfTI file cannot be read ({reason(error)}); expected a whole .nii or .nii.gz file: export it again."
        ) from error


def _parse(file: Any, n_file_bytes: int) -> tuple[Any, Grid]:
    """The image, voxels not yet read, and its grid."""
    of_header = _check_header(file)
    try:
        image: Any = of_header.from_file_map({"image": FileHolder(fileobj=file)})
        shape = tuple(int(n) for n in image.shape)
        kind = np.dtype(image.get_data_dtype())
        affine = np.array(image.affine, dtype=float)
    except Exception as error:
        raise DataError(
            f"The NIfTI file cannot be read ({reason(error)}); expected a whole .nii or .nii.gz file: export it again."
        ) from error
    if len(shape) < 3 or min(shape) < 1 or set(shape[3:]) - {1}:
        raise DataError(f"The NIfTI file has shape {shape}; expected three axes: save one volume.")
    if shape[0] * shape[1] * shape[2] > MAX_VOXELS or kind.kind not in "biuf":
        raise DataError(f"The NIfTI file has shape {shape} and type {kind}; expected at most {MAX_VOXELS:,} real numbers.")
    n_bytes = shape[0] * shape[1] * shape[2] * kind.itemsize
    if n_bytes > BIG_BYTES and n_bytes > MAX_RATIO * n_file_bytes:
        raise DataError(
            f"The NIfTI file of {n_file_bytes:,} bytes claims {n_bytes:,} bytes of voxels; expected an ordinary scan: export it again."
        )
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise DataError("The NIfTI affine is no geometry; expected finite numbers that span a volume: export it again.")
    space = _space(image)
    affine[:3] *= UNITS_MM[space.unit]
    return image, Grid((shape[1], shape[0], shape[2]), affine[:, [1, 0, 2, 3]], space.placed)


def _check_header(file: Any) -> type[nib.Nifti1Image]:
    """What nibabel mends or trusts: the offset of the voxels, which decides how much is read as extensions, and the spacing, whose sign it drops."""
    head = file.read(544)
    file.seek(0)
    order = next((mark for mark in "<>" if struct.unpack(f"{mark}i", head[:4])[0] in (348, 540)), None) if len(head) >= 352 else None
    if order is None:
        raise DataError("The file is no NIfTI volume; expected one, or PNG, JPEG, BMP, TIFF or DICOM: convert it or leave it out.")
    second = struct.unpack(f"{order}i", head[:4])[0] == 540
    offset = struct.unpack(f"{order}q", head[168:176])[0] if second else struct.unpack(f"{order}f", head[108:112])[0]
    if not (544 if second else 352) <= offset <= MAX_OFFSET:
        raise DataError(
            f"The NIfTI header puts the voxels at byte {offset:.0f}; expected one behind the header, at most {MAX_OFFSET:,}: export it again."
        )
    spacing = struct.unpack(f"{order}3d", head[112:136]) if second else struct.unpack(f"{order}3f", head[80:92])
    if not all(math.isfinite(x) and x > 0 for x in spacing):
        raise DataError(f"The NIfTI spacing is {' x '.join(f'{x:g}' for x in spacing)} mm; expected positive distances: export it again.")
    return nib.Nifti2Image if second else nib.Nifti1Image
