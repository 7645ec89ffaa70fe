"""A patch of simplex noise as SCRD4AD draws it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import OptionError
from .base import DESIGN_SIZE, ONE_GREY_STEP
from .fractal import FEATURE_PX, check_fractal, fractal, textures
from .noise_patch import AMPLITUDE, SIZE_PX, NoisePatch
from .region import Patches
from .simplex import seeded_permutation, simplex3

__all__ = ["SimplexPatch", "simplex_noise"]

OCTAVES = 6
PERSISTENCE = 0.6


class SimplexPatch(NoisePatch):
    """Add fractal simplex noise inside one rectangle of each image, as in the training of SCRD4AD.

    The channels are neighbouring slices of three-dimensional noise, so they differ: colour, on grey images too, unless ``grey_noise``. Each image has a texture
    of its own: a permutation and an origin drawn for it. The released code draws one seed for the whole training and takes every patch from that texture's
    origin: ``texture_seed=7698519916, clip=False, tolerance=0`` is its training (seed 111).

    Args:
        size: shortest and longest side of the rectangle in pixels.
        amplitude: lambda, what the noise is multiplied with; its standard deviation is about 0.3.
        octaves: how many noises are added up, each twice as fine as the one before.
        persistence: strength of an octave relative to the one before.
        feature_px: size of the coarsest features in pixels.
        texture_seed: OpenSimplex's seed of the one texture for all images; ``None``: a texture for each.
        grey_noise: the same noise in all channels.
        soft_edge_px: over so many pixels the noise fades towards the rectangle's edge.
        foreground: intensity above which a pixel is tissue, or ``None``; see :class:`PseudoAnomaly`, as for the rest.
        clip: keep changed pixels within [0, 1].
        tolerance: largest change that counts as none.
        design_size: the image side that lengths in pixels are meant for; ``None``: they are not scaled.

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

    def __init__(
        self,
        *,
        size: Sequence[int] = SIZE_PX,
        amplitude: float = AMPLITUDE,
        octaves: int = OCTAVES,
        persistence: float = PERSISTENCE,
        feature_px: float = FEATURE_PX,
        texture_seed: int | None = None,
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
        if texture_seed is not None and not isinstance(texture_seed, int):
            raise OptionError(f"texture_seed is {texture_seed!r}; expected a whole number, or None for a new texture in each image.")
        self.octaves, self.persistence, self.feature_px = octaves, persistence, feature_px
        self.texture_seed = texture_seed
        self.permutation = None if texture_seed is None else seeded_permutation(texture_seed)

    def _noise(self, patches: Patches, count: tuple[int, int], scale: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
        permutation, origin = self.permutation, None
        feature = self.feature_px * scale
        if permutation is None:
            permutation, origin = textures(count[0], 3, generator)
        return simplex_noise(
            patches,
            count[1],
            permutation,
            origin,
            octaves=self.octaves,
            persistence=self.persistence,
            feature_px=feature,
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
