"""Patches of noise added to the image: what those of Gaussian, simplex and Perlin noise share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .base import PatchInPixels
from .placing import check_fit, integers, place, uniform
from .region import Patches, Region, box_patches

__all__ = ["AMPLITUDE", "SIZE_PX", "NoisePatch"]

SIZE_PX = (10, 31)
AMPLITUDE = 0.2


@dataclass(kw_only=True, eq=False)
class NoisePatch(PatchInPixels):
    """Base class: ``old + amplitude * noise`` inside one rectangle of each image, whose corner is uniform over 1..H-1-h and 1..W-1-w."""

    size: Sequence[int] = SIZE_PX
    """Shortest and longest side of the rectangle in pixels; height and width are drawn one by one."""
    amplitude: float = AMPLITUDE
    """What the noise is multiplied with."""
    grey_noise: bool = False
    """The same noise in all channels, for images that are grey; one channel has one noise anyway."""
    soft_edge_px: int = 0
    """Over so many pixels the noise fades towards the rectangle's edge; 0: it ends there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.size) != 2 or not 1 <= self.size[0] <= self.size[1]:
            raise OptionError(f"size is {list(self.size)}; expected the shortest and the longest side in pixels, from 1 upwards.")
        if not 0 < self.amplitude < float("inf"):
            raise OptionError(f"amplitude is {self.amplitude}; expected a number above 0.")
        if self.soft_edge_px < 0:
            raise OptionError(f"soft_edge_px is {self.soft_edge_px}; expected 0 (a hard edge) or more pixels.")
        self.size = int(self.size[0]), int(self.size[1])

    @property
    def keep(self) -> float:
        """All of them: noise is added."""
        return 1.0

    @abstractmethod
    def _noise(self, patches: Patches, count: tuple[int, int], scale: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Noise ``(C, N)`` for the pixels of rectangles in B images, counted from their corners; ``count`` is (B, C), ``like`` tells type and device."""

    def _draw(self, image: Tensor, tissue: Tensor | None, generator: torch.Generator | None) -> tuple[Region, Tensor]:
        scale, (batch, channels, *shape) = self._scale(image), image.shape
        shortest, longest = (max(1, round(side * scale)) for side in self.size)
        check_fit(longest, longest, (shape[0], shape[1]), free=2)
        draws = uniform(generator, 4, batch)
        height, width = integers(draws[:2], shortest, longest)
        corner = place(draws[2:], (height, width), (shape[0], shape[1]), lowest=1, gap=1, tissue=tissue)
        patches = box_patches(height, width, image.device)
        like = image.new_empty(0, dtype=torch.float64 if image.dtype == torch.float64 else torch.float32)
        noise = self._noise(patches, (batch, 1 if self.grey_noise else channels), scale, like, generator)
        if self.soft_edge_px:
            noise = noise * _fading(patches, height.to(like.device), width.to(like.device), self.soft_edge_px * scale).to(like)
        return patches.at(corner, image), noise * self.amplitude


def _fading(patches: Patches, height: Tensor, width: Tensor, edge: float) -> Tensor:
    """From near 0 at the edge of the rectangle to 1 well inside."""
    image, row, column = patches.images(), patches.rows(), patches.columns()
    depth = torch.stack((row, height[image] - 1 - row, column, width[image] - 1 - column)).amin(dim=0)
    return ((depth + 1) / (edge + 1)).clamp_(max=1)
