"""What every pseudo-anomaly gives back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["PseudoAbnormal"]


class PseudoAbnormal(NamedTuple):
    """Images made abnormal, and where."""

    image: Tensor
    """``(B, C, H, W)``, the disturbed images."""
    mask: Tensor
    """``(B, 1, H, W)`` bool: the pixels that changed; an image without any is a normal one still."""
