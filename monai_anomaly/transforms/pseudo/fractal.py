"""Patches of fractal noise: octaves added up, and textures drawn from a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .noise_patch import NoisePatch

__all__ = ["FEATURE_PX", "FractalPatch", "fractal", "textures"]

FEATURE_PX = 32.0


@dataclass(kw_only=True, eq=False)
class FractalPatch(NoisePatch):
    """Base class of patches whose noise is a sum of octaves, :func:`fractal`."""

    octaves: int
    """How many noises are added up, each twice as fine as the one before; 1: the plain noise."""
    persistence: float
    """Strength of an octave relative to the one before."""
    feature_px: float = FEATURE_PX
    """Size of the coarsest features in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.octaves <= 8:
            raise OptionError(f"octaves is {self.octaves}; expected 1 to 8: the eighth is 128 times as fine as the first.")
        if not 0 < self.persistence <= 1:
            raise OptionError(f"persistence is {self.persistence}; expected more than 0, up to 1.")
        if not 0 < self.feature_px < float("inf"):
            raise OptionError(f"feature_px is {self.feature_px}; expected a length in pixels above 0.")


def fractal(noise: Callable[[Tensor], Tensor], points: Tensor, octaves: int, persistence: float) -> Tensor:
    r"""Add up octaves, :math:`\sum_k persistence^k\, noise(2^k p)`.

    Args:
        noise: from coordinates ``(D, octaves, ...)`` to values ``(octaves, ...)``.
        points: coordinates ``(D, ...)`` of the first octave.
        octaves: how many.
        persistence: strength of an octave relative to the one before.

    Returns:
        ``(...)``.

    Example:
        >>> fractal(lambda p: p[0], torch.ones(1, 2), octaves=3, persistence=0.5).tolist()  # 1 + 2 / 2 + 4 / 4
        [3.0, 3.0]
    """
    k = torch.arange(octaves, device=points.device).view(octaves, *[1] * (points.ndim - 1))
    values = noise(points.unsqueeze(1) * (2**k).to(points.dtype))
    weights = torch.tensor([persistence**j for j in range(octaves)], dtype=points.dtype, device=points.device)
    return torch.tensordot(weights, values, dims=1)


def textures(count: int, dimensions: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """One texture for each image: a permutation ``(B, 256)``, and an origin ``(B, D)`` within the first feature.

    The permutation makes the texture; without the origin all of them would be 0 at the first pixel, as noise is at the vertices of its lattice.
    """
    permutation = torch.rand((count, 256), generator=generator).argsort(dim=1, stable=True)
    return permutation, torch.rand((count, dimensions), generator=generator)
