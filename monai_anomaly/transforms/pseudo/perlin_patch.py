"""A patch of Perlin noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .fractal import FractalPatch, fractal, textures
from .region import Patches

__all__ = ["PerlinPatch", "perlin2"]


@dataclass(kw_only=True, eq=False)
class PerlinPatch(FractalPatch):
    """Add fractal Perlin noise inside one rectangle of each image; every image and channel has a texture of its own.

    Raises:
        OptionError: an option outside its values.

    Source:
        K. Perlin, Improving noise, SIGGRAPH 2002.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = PerlinPatch()(torch.full((2, 3, 64, 64), 0.5), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([2, 3, 64, 64]), [True, True])
    """

    octaves: int = 4
    persistence: float = 0.5

    def _noise(self, patches: Patches, count: tuple[int, int], scale: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
        batch, channels = count
        permutation, origin = textures(batch * channels, 2, generator)
        permutation, origin = permutation.to(like.device), origin.to(like)
        texture = patches.images() * channels + torch.arange(channels, device=like.device)[:, None]
        points = torch.stack((patches.columns(), patches.rows())).to(like).div_(self.feature_px * scale)[:, None]
        points = points + origin[texture].movedim(-1, 0)
        return fractal(lambda finer: perlin2(finer, permutation, texture), points, self.octaves, self.persistence)


def perlin2(points: Tensor, permutation: Tensor, texture: Tensor | None = None) -> Tensor:
    r"""Perlin's gradient noise at points of the plane.

    Each corner of a unit square has one of eight directions as its gradient; the four gradients' values at the point are blended with
    :math:`6t^5 - 15t^4 + 10t^3`.

    Args:
        points: coordinates ``(2, ...)``, float32 or float64; the lattice repeats every 256 steps.
        permutation: whole numbers 0..255 in some order, ``(256,)``, or one row for each texture ``(T, 256)``.
        texture: for each point, or for each of the last dimensions' points, the row to use; not needed for one.

    Returns:
        Noise in -1..1, ``(...)``, 0 at whole numbers.

    Example:
        >>> perlin2(torch.tensor([[0.0, 3.0], [0.0, 7.0]]), torch.arange(256)).abs().tolist()
        [0.0, 0.0]
    """
    hashes = permutation.reshape(-1)
    row = 0 if texture is None else texture * 256
    corner = points.floor()
    within = points - corner
    x, y = corner.long().unbind(0)
    turn = torch.arange(8, device=points.device, dtype=points.dtype) * (math.pi / 4)
    directions = torch.stack((turn.cos(), turn.sin()))

    def slope(right: int, down: int) -> Tensor:
        hashed = hashes[row + ((hashes[row + ((x + right) & 255)] + y + down) & 255)] & 7
        return directions[0][hashed] * (within[0] - right) + directions[1][hashed] * (within[1] - down)

    across, along = within**3 * (within * (within * 6 - 15) + 10)
    upper = torch.lerp(slope(0, 0), slope(1, 0), across)
    lower = torch.lerp(slope(0, 1), slope(1, 1), across)
    return torch.lerp(upper, lower, along) * math.sqrt(2)
