"""A patch of Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import DESIGN_SIZE, ONE_GREY_STEP
from .noise_patch import SIZE_PX, NoisePatch
from .region import Patches

__all__ = ["GaussianPatch"]


class GaussianPatch(NoisePatch):
    """Add independent Gaussian noise inside one rectangle of each image.

    Args:
        size: shortest and longest side of the rectangle in pixels.
        amplitude: standard deviation of the noise.
        grey_noise: the same noise in all channels.
        soft_edge_px: over so many pixels the noise fades towards the rectangle's edge.
        foreground: intensity above which a pixel is tissue, or ``None``; see :class:`PseudoAnomaly`, as for the rest.
        clip: keep changed pixels within [0, 1].
        tolerance: largest change that counts as none.
        design_size: the image side that lengths in pixels are meant for; ``None``: they are not scaled.

    Raises:
        OptionError: an option outside its values.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = GaussianPatch()(torch.full((2, 1, 64, 64), 0.5), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([2, 1, 64, 64]), [True, True])
    """

    def __init__(
        self,
        *,
        size: Sequence[int] = SIZE_PX,
        amplitude: float = 0.1,
        grey_noise: bool = False,
        soft_edge_px: int = 0,
        foreground: float | None = None,
        clip: bool = True,
        tolerance: float = ONE_GREY_STEP,
        design_size: int | None = DESIGN_SIZE,
    ):
        super().__init__(
            size=size,
            amplitude=amplitude,
            grey_noise=grey_noise,
            soft_edge_px=soft_edge_px,
            foreground=foreground,
            clip=clip,
            tolerance=tolerance,
            design_size=design_size,
        )

    def _noise(self, patches: Patches, count: tuple[int, int], scale: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
        return torch.randn((count[1], len(patches.run)), generator=generator).to(like)
