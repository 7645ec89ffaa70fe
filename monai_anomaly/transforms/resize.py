"""One resizer for everything: antialiased bilinear for images, nearest for masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.utils import scale_affine
from torch import Tensor
from torch.nn.functional import interpolate

from ..errors import OptionError
from .grid import onto_grid
from .tensors import metadata, plain, slice_blocks

__all__ = ["ResizeSlicesd"]


class ResizeSlicesd(MapTransform):
    """Resize every slice to a square, the aspect ratio not kept.

    Images: bilinear with antialiasing, what Pillow's resize does. The mask (key ``mask``): first brought to 0 and 1, and to the voxel order of the
    first image (axes exchanged or reversed as the affines tell); then nearest. A mask of 8 bits with values above 127, or from JPEG, is cut at 127, any
    other at 0; of coloured masks the brightest channel counts. Adds ``mask_any``, bool ``(S,)``: whether the slice's mask had a pixel **before**
    resizing, as a very small one may fall between the new pixels.

    Args:
        keys: ``(C, H, W, S)``, images before the mask.
        spatial_size: new H and W.
        allow_missing_keys: pass over absent keys.

    Raises:
        DataError: a mask that does not lie on the image's grid.
        OptionError: a size below 1.

    Example:
        >>> out = ResizeSlicesd(["image", "mask"], 8)({"image": torch.rand(1, 20, 16, 5), "mask": torch.ones(1, 20, 16, 5)})
        >>> out["image"].shape, out["mask"].unique().tolist(), out["mask_any"].tolist()
        (torch.Size([1, 8, 8, 5]), [1.0], [True, True, True, True, True])
    """

    def __init__(self, keys: KeysCollection, spatial_size: int, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        if int(spatial_size) < 1:
            raise OptionError(f"spatial_size is {spatial_size}; expected 1 or more pixels.")
        self.spatial_size = int(spatial_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the image and the mask of one case."""
        d = dict(data)
        grid: tuple[Any, tuple[int, ...]] | None = None
        for key in self.key_iterator(d):
            value, affine = plain(d[key]), d[key].affine if isinstance(d[key], MetaTensor) else np.eye(4)
            if key == "mask":
                value = _binary(value, metadata(d[key]))
                if grid is not None:
                    value, affine = onto_grid(value, affine, *grid, names=("mask", "image")), grid[0]
                d["mask_any"] = torch.cat([block.any(dim=0).any(dim=0).any(dim=0) for block in slice_blocks(value)])
                resized = self._resize(value, "nearest-exact")
            else:
                grid = grid or (affine, tuple(value.shape[1:]))
                resized = self._resize(value, "bilinear")
            if isinstance(d[key], MetaTensor):
                scale = scale_affine(value.shape[1:], resized.shape[1:], centered=True)
                resized = MetaTensor(resized, meta={**d[key].meta, "affine": torch.as_tensor(np.asarray(affine) @ np.asarray(scale))})
            d[key] = resized
        return d

    def _resize(self, value: Tensor, mode: str) -> Tensor:
        """Some slices at a time; in memory slice follows slice, the order in which they are taken out again."""
        size = (self.spatial_size, self.spatial_size)
        if tuple(value.shape[1:3]) == size:
            return value.float()
        resized = torch.empty(value.shape[-1], value.shape[0], *size, device=value.device)
        blocks = slice_blocks(value)
        for target, block in zip(resized.split(blocks[0].shape[-1]), blocks, strict=True):
            slices = block.permute(3, 0, 1, 2).float().contiguous()
            target.copy_(interpolate(slices, size=size, mode=mode, antialias=mode == "bilinear"))
        return resized.permute(1, 2, 3, 0)


def _binary(mask: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """``(C, H, W, S)`` -> bool ``(1, H, W, S)``."""
    brightest = mask if mask.shape[0] == 1 else mask.amax(dim=0, keepdim=True)
    bits8 = np.array_equal(np.asarray(meta.get("value_range", ())).ravel(), (0, 255))
    # JPEG spreads a little grey around every edge, also in a mask where nothing is marked.
    cut = 127 if bits8 and (meta.get("source_format") == "JPEG" or brightest.max() > 127) else 0
    return brightest > cut
