"""A patch of Perlin noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .base import DESIGN_SIZE, ONE_GREY_STEP
from .fractal import FEATURE_PX, check_fractal, fractal, textures
from .noise_patch import AMPLITUDE, SIZE_PX, NoisePatch
from .region import Patches

__all__ = ["PerlinPatch", "perlin2"]


class PerlinPatch(NoisePatch):
    """Add fractal Perlin noise inside one rectangle of each image; every image and channel has a texture of its own.

    Args:
        size: shortest and longest side of the rectangle in pixels.
        amplitude: what the noise is multiplied with.
        octaves: how many noises are added up, each twice as fine as the one before; 1: plain Perlin noise.
        persistence: strength of an octave relative to the one before.
        feature_px: size of the coarsest features in pixels.
        grey_noise: the same noise in all channels.
        soft_edge_px: over so many pixels the noise fades towards the rectangle's edge.
        foreground: intensity above which a pixel is tissue, or ``None``; see :class:`PseudoAnomaly`, as for the rest.
        clip: keep changed pixels within [0, 1].
        tolerance: largest change that counts as none.
        design_size: the image side that lengths in pixels are meant for; ``None``: they are not scaled.

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

    def __init__(
        self,
        *,
        size: Sequence[int] = SIZE_PX,
        amplitude: float = AMPLITUDE,
        octaves: int = 4,
        persistence: float = 0.5,
        feature_px: float = FEATURE_PX,
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
        check_fractal(octaves, persistence, feature_px)
        self.octaves, self.persistence, self.feature_px = octaves, persistence, feature_px

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
