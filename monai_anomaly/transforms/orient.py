"""Volumes as slices of one plane, the way radiologists look at them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils.enums import MetaKeys
from nibabel.orientations import axcodes2ornt
from numpy.typing import NDArray

from ..errors import DataError, OptionError
from .grid import reordered, reordered_affine, usable_affine
from .tensors import metadata, plain

__all__ = ["OrientSlicesd"]

DISPLAY = {"sagittal": "IPL", "coronal": "ILA", "axial": "PLS"}
"""Where rows, columns and slices run to: right, left, anterior, posterior, superior or inferior. Listed by the axis of their normals: R, A, S."""


class OrientSlicesd(MapTransform):
    """Permute and reverse the voxel axes so that an image is a stack of slices of the wanted plane, as radiologists display them.

    =========  ============  ============  ============
    plane      rows run to   columns to    slices to
    =========  ============  ============  ============
    axial      posterior     the left      superior
    coronal    inferior      the left      anterior
    sagittal   inferior      posterior     the left
    =========  ============  ============  ============

    The patient's left, that is. Of an oblique volume the slices are those of the voxel axis closest to the plane's normal, and rows and columns run in
    the closest directions. ``native`` keeps the slices that the image has, and shows them like the plane whose normal is closest to theirs. Where two are
    equally close (to 0.001 of the cosine; a volume at 45 degrees) the slices stay those of the image, and axial comes before coronal before sagittal.
    Voxels are never resampled.

    An image that does not lie in the patient stays as it is: ``geometry`` in its metadata is not ``"patient"``, or there is no ``geometry`` and the affine
    is the identity. Metadata are added, the source's own (``original_affine``, ``spatial_shape``) stay: ``slice_affine`` ``(4, 4)``, from the (row, column,
    slice) of the result to mm (RAS), which also becomes its ``affine``; and ``slice_shape`` ``(3,)``. Masks need no turning: :class:`ResizeSlicesd` does it.

    Args:
        keys: images ``(C, H, W, S)``.
        plane: ``"native"``, ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        allow_missing_keys: pass over absent keys.

    Raises:
        DataError: an affine that is none, a single slice that another plane would cut into lines, or another plane of a volume whose ``geometry`` is
            ``"unknown"``.
        OptionError: no such plane.

    Example:
        >>> ras = MetaTensor(torch.rand(1, 7, 6, 5), meta={"affine": torch.eye(4), "geometry": "patient"})
        >>> out = OrientSlicesd("image", plane="coronal")({"image": ras})["image"]
        >>> out.shape, out.meta["slice_shape"].tolist()
        (torch.Size([1, 5, 7, 6]), [5, 7, 6])
    """

    def __init__(self, keys: KeysCollection, plane: str = "native", allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        if plane != "native" and plane not in DISPLAY:
            raise OptionError(f"plane is {plane!r}; expected native, {', '.join(reversed(DISPLAY))}.")
        self.plane = plane

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn the images of one case."""
        d = dict(data)
        for key in self.key_iterator(d):
            if isinstance(d[key], MetaTensor):
                d[key] = self._oriented(d[key])
        return d

    def _oriented(self, image: MetaTensor) -> MetaTensor:
        meta, values = metadata(image), plain(image)
        affine = usable_affine(image.affine, "image")
        if meta.get("geometry") == "unknown" and self.plane != "native":
            raise DataError(
                f"The volume does not say where it lies in the patient (neither sform nor qform), and slices of the {self.plane} plane are asked for; "
                "expected a place, to know that plane: export it again, or use plane native."
            )
        if meta.get("geometry", "none" if np.array_equal(affine, np.eye(4)) else "patient") == "patient":
            order = _display_order(affine, self.plane)
            if values.shape[-1] == 1 and order[2, 0] != 2:
                raise DataError(
                    f"The image is a single slice, of which the {self.plane} plane is a line; expected a volume: use plane native."
                )
            affine, values = reordered_affine(affine, order, values.shape[-3:]), reordered(values, order)
        grid = {MetaKeys.AFFINE: torch.as_tensor(affine), "slice_affine": affine, "slice_shape": np.array(values.shape[-3:])}
        return MetaTensor(values, meta={**meta, **grid})


def _display_order(affine: NDArray[np.float64], plane: str) -> NDArray[np.int_]:
    """For each voxel axis the axis of the display that it becomes, and -1 if it is reversed: nibabel's orientations."""
    # Cosines of (R A S, voxel axis) in thousandths: rounding noise must not decide between directions that are equally close.
    cosines = np.rint(1000 * affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    near = np.abs(cosines)
    if plane == "native":
        slices = 2
        plane = list(DISPLAY)[_last_of_largest(near[:, slices])]
    else:
        slices = _last_of_largest(near[list(DISPLAY).index(plane)])
    wanted = axcodes2ornt(DISPLAY[plane]).astype(int)
    world = wanted[:, 0]
    rows, columns = (axis for axis in range(3) if axis != slices)
    if near[world[0], columns] + near[world[1], rows] > near[world[0], rows] + near[world[1], columns]:
        rows, columns = columns, rows
    order = np.empty((3, 2), dtype=int)
    for target, axis in enumerate((rows, columns, slices)):
        order[axis] = target, wanted[target, 1] * (1 if cosines[world[target], axis] >= 0 else -1)
    return order


def _last_of_largest(values: NDArray[np.int_]) -> int:
    return int(np.flatnonzero(values == values.max())[-1])
