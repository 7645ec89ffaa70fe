"""Slices that show nothing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from .tensors import plain, slice_blocks

__all__ = ["MarkEmptySlicesd"]

CONTRAST = 0.02
SHARE = 0.01


class MarkEmptySlicesd(MapTransform):
    """Add ``empty``, bool ``(S,)``: fewer than 1 % of the slice's pixels lie more than 0.02 above the slice's darkest one.

    Meant for images in the unit range, before resizing and normalising.

    Args:
        keys: the image ``(C, H, W, S)``; of several the last one counts.
        allow_missing_keys: pass over absent keys.

    Example:
        >>> image = torch.zeros(1, 20, 20, 2)
        >>> image[:, 5:10, 5:10, 1] = 0.5
        >>> MarkEmptySlicesd("image")({"image": image})["empty"].tolist()
        [True, False]
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mark the slices of one case."""
        d = dict(data)
        for key in self.key_iterator(d):
            marks = []
            for block in slice_blocks(plain(d[key])):
                darkest = block.amin(dim=(1, 2), keepdim=True)
                visible = (block > darkest + CONTRAST).any(dim=0)  # in any channel
                marks.append(visible.float().mean(dim=(0, 1)) < SHARE)
            d["empty"] = torch.cat(marks)
        return d
