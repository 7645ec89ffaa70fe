"""The released codes' pseudo-anomalies, number for number, for comparison with them; training uses the classes."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from torch import Tensor

from .base import PseudoAbnormal, disturb
from .cutpaste import BLEND, SIZES_PX, WEIGHTS
from .noise_patch import AMPLITUDE, SIZE_PX
from .region import box_patches
from .simplex import seeded_permutation
from .simplex_patch import simplex_noise

__all__ = ["released_cut_paste", "released_simplex_patch", "released_size"]


def released_size(draw: Random) -> int:
    """The side of the square that ESC-DRKD's and DRD's code draws for a batch: one of each class, then one of the three.

    Args:
        draw: Python's generator, in the state of ``random`` in the released code.

    Example:
        >>> draw = Random(123)
        >>> [released_size(draw) for _ in range(5)]
        [12, 70, 20, 20, 194]
    """
    large, middle, small = (draw.randint(*sizes) for sizes in SIZES_PX[::-1])
    return draw.choices([large, middle, small], WEIGHTS[::-1])[0]


def released_cut_paste(image: Tensor, size: int, draw: Random, numpy_draw: np.random.RandomState) -> PseudoAbnormal:
    """CutPaste on a batch as the released code does it: source from NumPy's draws, destination from Python's, image by image, not clipped.

    A side of the square is one pixel shorter where the distance to the source's corner is odd.

    Args:
        image: ``(B, C, H, W)`` in [0, 1].
        size: the side drawn for this batch, :func:`released_size`.
        draw: Python's generator.
        numpy_draw: NumPy's generator.

    Returns:
        The images, up to 1.2, and the mask of the pixels whose value is another one.

    Example:
        >>> image = torch.arange(64 * 64.0).div(64 * 64).expand(1, 1, -1).reshape(1, 1, 64, 64)
        >>> released_cut_paste(image, 14, Random(7), np.random.RandomState(7)).mask.sum().item()
        182
    """
    rows, columns = image.shape[-2:]
    numbers = []
    for _ in range(len(image)):  # two streams of single draws, in the released order
        x = int(numpy_draw.randint(0, columns - size))
        y = int(numpy_draw.randint(0, rows - size))
        width, height = size - (x - size) % 2, size - (y - size) % 2
        numbers.append((height, width, y, x, draw.randint(1, rows - height - 2), draw.randint(1, columns - width - 2)))
    height_, width_, source_top, source_left, top, left = torch.tensor(numbers).T
    patches = box_patches(height_, width_, image.device)
    cut = patches.at((source_top, source_left), image).read(image)
    return disturb(image, patches.at((top, left), image), cut, keep=BLEND, clip=False)


def released_simplex_patch(image: Tensor, texture_seed: int, numpy_draw: np.random.RandomState) -> PseudoAbnormal:
    """A simplex patch on each image as SCRD4AD's code does it: one texture from its origin for all, not clipped.

    Args:
        image: ``(B, 3, H, W)`` in [0, 1].
        texture_seed: what the code draws once, when its data set is made: ``numpy_draw.randint(-10000000000, 10000000000)``.
        numpy_draw: NumPy's generator.

    Returns:
        The images and the mask of the pixels whose value is another one.

    Example:
        >>> draw = np.random.RandomState(111)
        >>> seed = draw.randint(-10000000000, 10000000000)
        >>> out = released_simplex_patch(torch.full((1, 3, 256, 256), 0.5), seed, draw)
        >>> seed, out.mask.any(dim=3).sum().item(), out.mask.any(dim=2).sum().item()
        (7698519916, 30, 30)
    """
    rows, columns = image.shape[-2:]
    numbers = []
    for _ in range(len(image)):  # one stream of single draws, in the released order
        height, width = (int(numpy_draw.randint(SIZE_PX[0], SIZE_PX[1] + 1)) for _ in range(2))
        numbers.append((height, width, int(numpy_draw.randint(1, rows - height)), int(numpy_draw.randint(1, columns - width))))
    height_, width_, top, left = torch.tensor(numbers).T
    patches = box_patches(height_, width_, image.device)
    noise = simplex_noise(patches, image.shape[1], seeded_permutation(texture_seed), dtype=torch.float64)
    return disturb(image, patches.at((top, left), image), noise * AMPLITUDE, keep=1, clip=False)
