"""A patch of simplex noise as SCRD4AD draws it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .fractal import FEATURE_PX, FractalPatch, fractal, textures
from .noise_patch import AMPLITUDE
from .region import Patches
from .simplex import seeded_permutation, simplex3

__all__ = ["SimplexPatch", "simplex_noise"]

OCTAVES = 6
PERSISTENCE = 0.6


@dataclass(kw_only=True, eq=False)
class SimplexPatch(FractalPatch):
    """Add fractal simplex noise inside one rectangle of each image, as in the training of SCRD4AD.

    The channels are neighbouring slices of three-dimensional noise, so they differ: colour, on grey images too, unless ``grey_noise``. Each image has a texture
    of its own: a permutation and an origin drawn for it. The released code draws one seed for the whole training and takes every patch from that texture's
    origin: ``texture_seed=7698519916, clip=False, tolerance=0`` is its training (seed 111).

    Raises:
        OptionError: an option outside its values.

    Source:
        The released code of SCRD4AD (ICLR 2025).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = SimplexPatch(soft_edge_px=3)(torch.full((2, 3, 64, 64), 0.5), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([2, 3, 64, 64]), [True, True])
    """

    amplitude: float = AMPLITUDE
    """Lambda, what the noise is multiplied with; its standard deviation is about 0.3."""
    octaves: int = OCTAVES
    persistence: float = PERSISTENCE
    texture_seed: int | None = None
    """OpenSimplex's seed of the one texture for all images; ``None``: a texture for each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.texture_seed is not None and not isinstance(self.texture_seed, int):
            raise OptionError(f"texture_seed is {self.texture_seed!r}; expected a whole number, or None for a new texture in each image.")
        self.permutation = None if self.texture_seed is None else seeded_permutation(self.texture_seed)

    def _noise(self, patches: Patches, count: tuple[int, int], scale: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
        permutation, origin = self.permutation, None
        if permutation is None:
            permutation, origin = textures(count[0], 3, generator)
        return simplex_noise(
            patches,
            count[1],
            permutation,
            origin,
            octaves=self.octaves,
            persistence=self.persistence,
            feature_px=self.feature_px * scale,
            dtype=like.dtype,
        )


def simplex_noise(
    patches: Patches,
    channels: int,
    permutation: Tensor,
    origin: Tensor | None = None,
    *,
    octaves: int = OCTAVES,
    persistence: float = PERSISTENCE,
    feature_px: float = FEATURE_PX,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    r"""Fractal simplex noise at the pixels of patches, channel after channel.

    .. math:: n(z, y, x) = \sum_{k=0}^{octaves-1} persistence^k\; simplex_3\!\left(\frac{2^k (x, y, z)}{feature}\right)

    Args:
        patches: their rows y and columns x; their image says which texture to use.
        channels: how many slices z.
        permutation: of one texture ``(256,)``, or of one for each image ``(B, 256)``.
        origin: ``(B, 3)``, where each image's texture begins, in features; ``None``: at 0.
        octaves: how many noises are added up.
        persistence: strength of an octave relative to the one before.
        feature_px: size of the coarsest features in pixels.
        dtype: float32 or float64.

    Returns:
        ``(channels, N)``.

    Example:
        >>> from monai_anomaly.transforms.pseudo.region import box_patches
        >>> simplex_noise(box_patches(torch.tensor([2]), torch.tensor([2]), torch.device("cpu")), 3, seeded_permutation(1)).shape
        torch.Size([3, 4])
    """
    device, image = patches.image.device, patches.images()
    points = torch.empty((3, channels, len(patches.run)), dtype=dtype, device=device)
    points[0], points[1] = patches.columns(), patches.rows()
    points[2] = torch.arange(channels, device=device)[:, None]
    points /= feature_px
    if origin is not None:
        points += origin.to(device, dtype).T.index_select(1, image)[:, None]
    texture = None if permutation.ndim == 1 else image
    permutation = permutation.to(device)
    return fractal(lambda finer: simplex3(finer, permutation, texture), points, octaves, persistence)
