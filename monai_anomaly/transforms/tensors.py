"""What the transforms of slices share: plain tensors, and a few slices at a time."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = ["metadata", "plain", "slice_blocks"]

BLOCK = 64
"""Slices worked on at once: of 512 x 512 pixels they are 64 MiB as float32."""


def plain(value: Any) -> Tensor:
    """A tensor without MONAI's metadata, sharing its memory.

    Example:
        >>> type(plain(MetaTensor(torch.zeros(1, 2, 2, 1)))).__name__
        'Tensor'
    """
    return value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)


def metadata(value: Any) -> dict[str, Any]:
    """The metadata of a MetaTensor; nothing of anything else.

    Example:
        >>> metadata(torch.zeros(1))
        {}
    """
    return value.meta if isinstance(value, MetaTensor) else {}


def slice_blocks(volume: Tensor) -> tuple[Tensor, ...]:
    """Views of a few slices each, so that no step needs the whole volume twice.

    Args:
        volume: ``(..., S)``.

    Example:
        >>> [block.shape[-1] for block in slice_blocks(torch.zeros(1, 4, 4, 130))]
        [64, 64, 2]
    """
    return volume.split(BLOCK, dim=-1)
