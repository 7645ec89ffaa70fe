"""CutPaste as ESC-DRKD and DRD draw it: a square of the image pasted elsewhere, with a shadow of what was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .base import PatchInPixels
from .placing import check_fit, integers, place, uniform
from .region import Region, box_patches

__all__ = ["CutPaste"]

SIZES_PX = ((10, 32), (64, 100), (150, 200))
WEIGHTS = (0.5, 0.3, 0.2)
BLEND = 0.2


@dataclass(kw_only=True, eq=False)
class CutPaste(PatchInPixels):
    """Paste a square of the image elsewhere in it: ``patch + 0.2 * old``, as in the training of ESC-DRKD and DRD.

    The side of the square comes from one of three classes, small, middle or large. The upper left corner of the source is uniform over 0..H-t-1 and 0..W-t-1,
    that of the destination over 1..H-t-2 and 1..W-t-2. The released codes draw one size per batch, make a side one pixel shorter where the distance to the
    source's corner is odd, and do not clip (:func:`monai_anomaly.transforms.pseudo.released_cut_paste` does all three).

    Raises:
        OptionError: sizes, weights or another option outside their values.

    Source:
        The released codes of ESC-DRKD (Neurocomputing 651, 2025) and DRD (Neurocomputing 624, 2025).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = CutPaste()(torch.rand(4, 3, 64, 64, generator=generator), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([4, 3, 64, 64]), [True, True, True, True])
    """

    sizes: Sequence[Sequence[int]] = SIZES_PX
    """Shortest and longest side of each class in pixels; small alone, ``[[10, 32]]``, is what ESC-DRKD uses for retinal OCT."""
    weights: Sequence[float] = WEIGHTS
    """How often each class is drawn."""
    size_per: str = "image"
    """``"image"``: each image has a size of its own; ``"batch"``: one for all, as released."""
    blend: float = BLEND
    """Share of the old pixels that is added to the patch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            sizes, weights = tuple((int(low), int(high)) for low, high in self.sizes), tuple(map(float, self.weights))
        except (TypeError, ValueError) as error:  # one pair alone, for example
            raise OptionError(
                f"sizes is {self.sizes} and weights is {self.weights}; expected a list of pairs and a list of numbers, such as [[10, 32]] and [1]."
            ) from error
        if not sizes or any(not 1 <= low <= high for low, high in sizes):
            raise OptionError(
                f"sizes is {list(self.sizes)}; expected one or more pairs of sides in pixels, [shortest, longest], from 1 upwards."
            )
        if len(weights) != len(sizes) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise OptionError(
                f"weights is {list(self.weights)}; expected one number for each of the {len(sizes)} sizes, none below 0, not all 0."
            )
        if self.size_per not in ("image", "batch"):
            raise OptionError(f"size_per is {self.size_per!r}; expected image or batch.")
        if not 0 <= self.blend <= 1:
            raise OptionError(f"blend is {self.blend}; expected a share from 0 (the patch alone) to 1.")
        self.sizes, self.weights = sizes, weights

    @property
    def keep(self) -> float:
        """The same as ``blend``."""
        return self.blend

    def _draw(self, image: Tensor, tissue: Tensor | None, generator: torch.Generator | None) -> tuple[Region, Tensor]:
        size, scale = (image.shape[-2], image.shape[-1]), self._scale(image)
        longest = max(1, round(max(high for _, high in self.sizes) * scale))
        check_fit(longest, longest, size, free=3)
        draws = uniform(generator, 6, len(image))
        side = self._sides(draws[:2] if self.size_per == "image" else draws[:2, :1].expand(2, len(image)), scale)
        source = place(draws[2:4], (side, side), size, gap=1, tissue=tissue)
        corner = place(draws[4:], (side, side), size, lowest=1, gap=2, tissue=tissue)
        patches = box_patches(side, side, image.device)
        return patches.at(corner, image), patches.at(source, image).read(image)

    def _sides(self, draws: Tensor, scale: float) -> Tensor:
        """Sides of squares from two draws each."""
        share = torch.tensor(self.weights).cumsum(0)
        chosen = torch.searchsorted(share, draws[0] * share[-1], right=True).clamp_(max=len(share) - 1)
        low, high = torch.tensor(self.sizes).T
        sides = integers(draws[1], low[chosen], high[chosen])
        return sides if scale == 1 else (sides * scale).round().clamp(min=1).long()
