"""The normalisation of ImageNet-trained teachers, undone and done again on batches; bundles do it to slices with MONAI's NormalizeIntensityd."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "from_unit_range", "to_unit_range"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_unit_range(image: Tensor) -> Tensor:
    """Bring teacher-normalised images ``(B, 3, H, W)`` back to [0, 1].

    Example:
        >>> to_unit_range(torch.zeros(1, 3, 1, 1)).flatten().tolist() == [torch.tensor(m).item() for m in IMAGENET_MEAN]
        True
    """
    mean, std = _statistics(image)
    return (image * std + mean).clamp(0, 1)


def from_unit_range(image: Tensor) -> Tensor:
    """Normalise images ``(B, 3, H, W)`` in [0, 1] for the teacher.

    Example:
        >>> from_unit_range(to_unit_range(torch.zeros(1, 3, 1, 1))).abs().max().item() < 1e-6
        True
    """
    mean, std = _statistics(image)
    return (image - mean) / std


def _statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std
