"""A patch of Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .noise_patch import NoisePatch
from .region import Patches

__all__ = ["GaussianPatch"]


@dataclass(kw_only=True, eq=False)
class GaussianPatch(NoisePatch):
    """Add independent Gaussian noise inside one rectangle of each image.

    Raises:
        OptionError: an option outside its values.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = GaussianPatch()(torch.full((2, 1, 64, 64), 0.5), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([2, 1, 64, 64]), [True, True])
    """

    amplitude: float = 0.1
    """Standard deviation of the noise."""

    def _noise(self, patches: Patches, count: tuple[int, int], scale: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn((count[1], len(patches.run)), generator=generator).to(like)
