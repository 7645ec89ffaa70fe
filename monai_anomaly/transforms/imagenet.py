"""The normalisation of ImageNet-trained teachers, for undoing it in pictures; bundles do it with MONAI's NormalizeIntensityd."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "to_unit_range"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def to_unit_range(image: Tensor) -> Tensor:
    """Bring teacher-normalised images ``(B, 3, H, W)`` back to [0, 1].

    Example:
        >>> to_unit_range(torch.zeros(1, 3, 1, 1)).flatten().tolist() == [torch.tensor(m).item() for m in IMAGENET_MEAN]
        True
    """
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (image * std + mean).clamp(0, 1)
