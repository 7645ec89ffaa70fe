"""What every pseudo-anomaly takes, gives back and promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import DataError, OptionError
from ..tensors import plain
from .region import Region

__all__ = ["DESIGN_SIZE", "ONE_GREY_STEP", "PatchInPixels", "PseudoAbnormal", "PseudoAnomaly", "disturb"]

DESIGN_SIZE = 256
"""The image side that the papers' pixel counts were chosen for."""
ONE_GREY_STEP = 0.005
"""A little more than one step of an 8-bit image (1/255)."""


class PseudoAbnormal(NamedTuple):
    """Images made abnormal, and where."""

    image: Tensor
    """``(B, C, H, W)``, the disturbed images."""
    mask: Tensor
    """``(B, 1, H, W)`` bool: the pixels that changed; an image without any is a normal one still."""


@dataclass(kw_only=True, eq=False)
class PseudoAnomaly(ABC):
    """Base class: normal images in, abnormal images and the mask of what changed out; a whole batch in one call, on any device, with any channels.

    Two promises hold for each of them. Pixels outside the mask are those of the input, bit for bit. All draws are made on the CPU from one generator and then
    moved, so that every device gets the same anomalies.

    Raises:
        OptionError: an option outside its values, a patch that does not fit into the image, or a generator that is not the CPU's.
        DataError: not a batch of floating-point images ``(B, C, H, W)``.
    """

    foreground: float | None = None
    """Mean intensity over the channels above which a pixel is tissue; patches are then taken from, and put on, places whose centre is tissue (where the
    image's border leaves no such place, the patch covers a pixel of tissue), and an image without tissue stays as it is. ``None``: anywhere, as published;
    air pasted on air then gives a normal image that is called abnormal."""
    clip: bool = True
    """Keep changed pixels within [0, 1], as images are."""
    tolerance: float = ONE_GREY_STEP
    """A change of at most this much in every channel is none: the pixel keeps its value and stays out of the mask. The default is a little more than one
    step of 8 bits."""

    def __post_init__(self) -> None:
        if self.foreground is not None and not 0 <= self.foreground < 1:
            raise OptionError(f"foreground is {self.foreground}; expected an intensity from 0 to below 1, or None for patches anywhere.")
        if not 0 <= self.tolerance < 1:
            raise OptionError(f"tolerance is {self.tolerance}; expected an intensity from 0 (every change counts) to below 1.")

    @property
    def keep(self) -> float:
        """Share of the old values that stays under a patch: new = patch + keep * old."""
        return 0.0

    @torch.no_grad()
    def __call__(self, image: Tensor, generator: torch.Generator | None = None) -> PseudoAbnormal:
        """Disturb a batch.

        Args:
            image: ``(B, C, H, W)`` in [0, 1]; it is not changed.
            generator: a generator of the CPU; ``None``: torch's global one.

        Returns:
            The disturbed images, and the mask of the pixels that changed.
        """
        image = plain(image)
        if image.ndim != 4 or not image.is_floating_point() or not image.numel():
            raise DataError(
                f"The batch is {image.dtype} of shape {tuple(image.shape)}; expected floating-point images (B, C, H, W) in [0, 1]: "
                "add the missing dimension, or scale the values."
            )
        if generator is not None and generator.device.type != "cpu":
            raise OptionError(f"The generator is on {generator.device}; expected one of the CPU, so that every device gets the same draws.")
        tissue = None if self.foreground is None else image.mean(dim=1) > self.foreground
        region, added = self._draw(image, tissue, generator)
        usable = None if tissue is None else tissue.flatten(1).any(dim=1)
        return disturb(image, region, added, keep=self.keep, clip=self.clip, tolerance=self.tolerance, usable=usable)

    @abstractmethod
    def _draw(self, image: Tensor, tissue: Tensor | None, generator: torch.Generator | None) -> tuple[Region, Tensor]:
        """Which pixels of the batch to change, and what is added to the share of their values that is kept, ``(C, N)`` or ``(1, N)``."""


@dataclass(kw_only=True, eq=False)
class PatchInPixels(PseudoAnomaly):
    """Base class of those whose options have lengths in pixels."""

    design_size: int | None = DESIGN_SIZE
    """Lengths in pixels are those of an image whose shorter side has this many; other images get them scaled, and rounded. ``None``: as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.design_size is not None and self.design_size < 1:
            raise OptionError(f"design_size is {self.design_size}; expected 1 or more pixels, or None for lengths that are not scaled.")

    def _scale(self, image: Tensor) -> float:
        """Pixels of this image for one of the lengths in the options."""
        return 1.0 if self.design_size is None else min(image.shape[-2:]) / self.design_size


def disturb(
    image: Tensor,
    region: Region,
    added: Tensor,
    *,
    keep: float,
    clip: bool = True,
    tolerance: float = 0.0,
    usable: Tensor | None = None,
) -> PseudoAbnormal:
    """Copy the images with some pixels replaced, ``added + keep * old``, and say which of them differ now.

    Args:
        image: ``(B, C, H, W)``.
        region: the pixels, each at most once.
        added: values for them ``(C, N)``; ``(1, N)`` serves all channels.
        keep: share of the old values that stays.
        clip: bring the new values to [0, 1].
        tolerance: pixels that change by this much or less in every channel keep their values.
        usable: bool ``(B,)``, the images that may change at all; ``None``: all of them.

    Returns:
        The images and the mask; outside the mask every bit is that of ``image``.

    Example:
        >>> from monai_anomaly.transforms.pseudo.region import box_patches
        >>> image, zero = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
        >>> corner = box_patches(zero + 1, zero + 1, image.device).at((zero, zero), image)
        >>> out = disturb(image, corner, torch.tensor([[0.25]]), keep=1)
        >>> out.image[0, 0].tolist(), out.mask[0, 0].tolist()
        ([[0.75, 0.5], [0.5, 0.5]], [[True, False], [False, False]])
    """
    old = region.read(image)
    new = torch.add(added, old, alpha=keep).to(image.dtype)
    if clip:
        new.clamp_(0, 1)
    changed = (new - old).abs_().amax(dim=0) > tolerance
    if usable is not None:
        changed &= usable[region.patches.images()]
    return PseudoAbnormal(region.write(image, torch.where(changed, new, old)), region.mask(image, changed))
