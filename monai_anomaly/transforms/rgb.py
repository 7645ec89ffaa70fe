"""Three channels for a teacher that saw photographs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RepeatChannel

from ..errors import DataError

__all__ = ["ToRGBd"]


class ToRGBd(MapTransform):
    """Repeat one channel three times; three channels stay.

    Args:
        keys: images ``(1, ...)`` or ``(3, ...)``: whole volumes ``(C, H, W, S)``, or single slices ``(C, H, W)``.
        allow_missing_keys: pass over absent keys.

    Raises:
        DataError: another number of channels.

    Example:
        >>> import torch
        >>> ToRGBd("image")({"image": torch.zeros(1, 4, 4, 2)})["image"].shape
        torch.Size([3, 4, 4, 2])
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.repeat = RepeatChannel(3)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give the images of one case three channels."""
        d = dict(data)
        for key in self.key_iterator(d):
            if d[key].shape[0] not in (1, 3):
                raise DataError(f"The {key} has {d[key].shape[0]} channels; expected 1 (grey) or 3 (colour): convert it.")
            if d[key].shape[0] == 1:
                d[key] = self.repeat(d[key])
        return d
