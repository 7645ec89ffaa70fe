"""One resizer for everything: antialiased bilinear for images, nearest for masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.utils import scale_affine
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from torch import Tensor
from torch.nn import functional as F

from ..errors import DataError, OptionError

__all__ = ["ResizeSlicesd"]

GRID_TOLERANCE = 0.01
"""How far, in voxels, a mask's corner may lie from the image's."""


class ResizeSlicesd(MapTransform):
    """Resize every slice to a square, the aspect ratio not kept (SPEC 0.5).

    Images: bilinear with antialiasing, what Pillow's resize does. Masks (keys in ``mask_keys``): first brought to 0 and 1, and to the voxel order of the
    first image (axes exchanged or reversed as the affines tell); then nearest. A mask of 8 bits with values above 127, or from JPEG, is cut at 127, any
    other at 0; of coloured masks the brightest channel counts. Adds ``<mask key>_any``, bool ``(S,)``: whether the slice's mask had a pixel **before**
    resizing, as a very small one may fall between the new pixels.

    Args:
        keys: ``(C, H, W, S)``, images before masks.
        spatial_size: new H and W.
        mask_keys: which of the keys are masks.
        allow_missing_keys: pass over absent keys.

    Raises:
        DataError: a mask that does not lie on the image's grid.
        OptionError: a size below 1.

    Example:
        >>> out = ResizeSlicesd(["image", "mask"], 8)({"image": torch.rand(1, 20, 16, 5), "mask": torch.ones(1, 20, 16, 5)})
        >>> out["image"].shape, out["mask"].unique().tolist(), out["mask_any"].tolist()
        (torch.Size([1, 8, 8, 5]), [1.0], [True, True, True, True, True])
    """

    def __init__(
        self, keys: KeysCollection, spatial_size: int, mask_keys: str | Sequence[str] = ("mask",), allow_missing_keys: bool = False
    ):
        super().__init__(keys, allow_missing_keys)
        if int(spatial_size) < 1:
            raise OptionError(f"spatial_size is {spatial_size}; expected 1 or more pixels.")
        self.spatial_size = int(spatial_size)
        self.mask_keys = {mask_keys} if isinstance(mask_keys, str) else set(mask_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the image and the mask of one case."""
        d = dict(data)
        grid: tuple[tuple[int, ...], np.ndarray[Any, Any]] | None = None
        for key in self.key_iterator(d):
            value, affine = _plain(d[key]), _affine(d[key])
            if key in self.mask_keys:
                mask = _binary(value, getattr(d[key], "meta", {}))
                if grid is not None:
                    mask, affine = _on_grid(mask, affine, *grid)
                d[f"{key}_any"] = mask.flatten(0, 2).any(dim=0)
                resized = self._resize(mask.float(), "nearest-exact")
            else:
                grid = grid or (tuple(value.shape[1:]), affine)
                resized = self._resize(value.float(), "bilinear")
            if isinstance(d[key], MetaTensor):
                scale = scale_affine(value.shape[1:], resized.shape[1:], centered=True)
                resized = MetaTensor(resized, meta={**d[key].meta, "affine": torch.as_tensor(affine @ np.asarray(scale))})
            d[key] = resized
        return d

    def _resize(self, value: Tensor, mode: str) -> Tensor:
        size = (self.spatial_size, self.spatial_size)
        if tuple(value.shape[1:3]) == size:
            return value
        slices = value.permute(3, 0, 1, 2)
        return F.interpolate(slices, size=size, mode=mode, antialias=mode == "bilinear").permute(1, 2, 3, 0).contiguous()


def _plain(value: Any) -> Tensor:
    return value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)


def _affine(value: Any) -> np.ndarray[Any, Any]:
    return np.asarray(value.affine, dtype=float) if isinstance(value, MetaTensor) else np.eye(4)


def _binary(mask: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """``(C, H, W, S)`` -> bool ``(1, H, W, S)``."""
    brightest = mask.amax(dim=0, keepdim=True)
    bits8 = np.array_equal(np.asarray(meta.get("value_range", ())).ravel(), (0, 255))
    # JPEG spreads a little grey around every edge, also in a mask where nothing is marked.
    cut = 127 if bits8 and (meta.get("source_format") == "JPEG" or brightest.max() > 127) else 0
    return brightest > cut


def _on_grid(
    mask: Tensor, affine: np.ndarray[Any, Any], shape: tuple[int, ...], image_affine: np.ndarray[Any, Any]
) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """Bring a mask to the image's voxel order, and make sure that it then lies on the image's grid."""
    order = io_orientation(np.linalg.inv(image_affine) @ affine)
    if np.isnan(order).any():
        raise DataError(
            "The axes of the mask cannot be matched with those of the image; expected a mask on the image's grid: export it again."
        )
    if not np.array_equal(order, [[0, 1], [1, 1], [2, 1]]):
        affine = affine @ inv_ornt_aff(order, mask.shape[1:])
        mask = torch.from_numpy(np.ascontiguousarray(apply_orientation(mask[0].numpy(), order)))[None]
    if tuple(mask.shape[1:]) != shape:
        raise DataError(
            f"The mask has (rows, columns, slices) {tuple(mask.shape[1:])}, the image {shape}; expected the same grid: export both together."
        )
    corners = np.array([[x, y, z, 1] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)], dtype=float).T
    apart = np.abs(np.linalg.inv(image_affine) @ affine @ corners - corners).max()
    if apart > GRID_TOLERANCE:
        raise DataError(f"The mask lies up to {apart:.2f} voxels beside the image; expected the same grid: export mask and image together.")
    return mask, affine
