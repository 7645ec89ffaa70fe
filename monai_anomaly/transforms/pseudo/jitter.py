"""Colours a little off, as the original CutPaste's patches have them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .base import PseudoAnomaly
from .region import Patches

__all__ = ["JitteredPaste", "box_mean", "jitter_colours"]


@dataclass(kw_only=True, eq=False)
class JitteredPaste(PseudoAnomaly):
    """Base class of those that paste a part of the image with its colours a little off."""

    jitter: float = 0.1
    """How far brightness, contrast, saturation (shares) and hue (of a full turn) may go; 0: not at all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.jitter <= 0.5:
            raise OptionError(f"jitter is {self.jitter}; expected a share from 0 to 0.5.")

    def _jittered(
        self, values: Tensor, patches: Patches, image: Tensor, source: tuple[Tensor, Tensor], box: tuple[Tensor, Tensor], draws: Tensor
    ) -> Tensor:
        """Values ``(C, N)`` that were cut from a box of each image, its corner ``source``; ``patches`` tell which image each of them belongs to."""
        return jitter_colours(values, patches.images(), box_mean(image, source, box), draws, self.jitter) if self.jitter else values


def jitter_colours(values: Tensor, image: Tensor, mean: Tensor, draws: Tensor, strength: float) -> Tensor:
    r"""Brightness, contrast, saturation and hue of each image's patch, in this order; nothing is clipped.

    Brightness, contrast and saturation are multiplied with factors from :math:`1 \pm strength`; contrast is measured from the patch's mean,
    saturation from each pixel's mean over the channels. The hue turns about the grey axis by up to :math:`\pm strength` of a full turn. Saturation
    and hue need colours: they are left alone unless there are three channels.

    Args:
        values: pixels ``(C, N)``.
        image: which image each of them belongs to, ``(N,)``.
        mean: mean of each patch over pixels and channels, ``(B,)``.
        draws: ``(4, B)`` from [0, 1).
        strength: 0 (nothing changes) to 0.5.

    Returns:
        ``(C, N)``.

    Example:
        >>> pixels, mean = torch.full((3, 1), 0.5), torch.tensor([0.5])
        >>> jitter_colours(pixels, torch.tensor([0]), mean, torch.full((4, 1), 1.0), 0.1)[:, 0].tolist()  # grey: brighter, and nothing else
        [0.55..., 0.55..., 0.55...]
    """
    shift = (draws.to(values.device, values.dtype) * 2 - 1) * strength
    brightness, contrast, saturation = (1 + shift[:3]).unbind(0)
    gain, offset = brightness * contrast, (1 - contrast) * brightness * mean
    values = values * gain[image] + offset[image]
    if len(values) != 3:
        return values
    grey = values.mean(dim=0)
    colour = (values - grey) * saturation[image]
    angle = shift[3] * (2 * math.pi)
    # A turn about (1, 1, 1) of a vector at right angles to it.
    across = (colour.roll(1, dims=0) - colour.roll(-1, dims=0)) / math.sqrt(3)
    return grey + colour * angle.cos()[image] + across * angle.sin()[image]


def box_mean(image: Tensor, corner: tuple[Tensor, Tensor], box: tuple[Tensor, Tensor]) -> Tensor:
    """Mean of one box of each image ``(B, C, H, W)`` over pixels and channels, ``(B,)``.

    Args:
        image: the batch.
        corner: top row and left column of each box, ``(B,)``.
        box: height and width of each box, ``(B,)``.

    Example:
        >>> box_mean(torch.arange(6.0).view(1, 1, 2, 3), (torch.tensor([0]), torch.tensor([1])), (torch.tensor([2]), torch.tensor([1])))
        tensor([2.5000])
    """
    lines = []
    for first, length, side in zip(corner, box, image.shape[-2:], strict=True):
        line = torch.arange(side, device=image.device)
        first, length = first.to(image.device)[:, None], length.to(image.device)[:, None]
        lines.append(((line >= first) & (line < first + length)).to(image.dtype) / length)
    return torch.einsum("bhw,bh,bw->b", image.mean(dim=1), *lines)
