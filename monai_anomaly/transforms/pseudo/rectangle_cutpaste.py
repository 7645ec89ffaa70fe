"""The original CutPaste: a rectangle of the image pasted elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import OptionError
from .base import ONE_GREY_STEP, PseudoAnomaly
from .jitter import box_mean, jitter_colours
from .placing import place, uniform
from .region import Region, box_patches

__all__ = ["RectangleCutPaste"]


class RectangleCutPaste(PseudoAnomaly):
    """Paste a rectangle of the image, its colours a little off, elsewhere in it.

    Its area is a share of the image's, its width over its height comes from one of two ranges, lying or standing, with equal chance; sides longer than the
    image's are cut to it. Source and destination are uniform.

    Args:
        area: smallest and largest area as a share of the image.
        standing: smallest and largest width over height of a standing rectangle.
        lying: the same of a lying one.
        jitter: how far brightness, contrast, saturation (shares) and hue (of a full turn) may go; 0: not at all.
        foreground: intensity above which a pixel is tissue, for source and destination, or ``None``; see :class:`PseudoAnomaly`, as for the rest.
        clip: keep changed pixels within [0, 1].
        tolerance: largest change that counts as none.

    Raises:
        OptionError: an option outside its values.

    Source:
        C.-L. Li et al., CutPaste, CVPR 2021, section 2.1 and appendix A.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = RectangleCutPaste()(torch.rand(2, 3, 64, 64, generator=generator), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([2, 3, 64, 64]), [True, True])
    """

    def __init__(
        self,
        *,
        area: Sequence[float] = (0.02, 0.15),
        standing: Sequence[float] = (0.3, 1.0),
        lying: Sequence[float] = (1.0, 3.3),
        jitter: float = 0.1,
        foreground: float | None = None,
        clip: bool = True,
        tolerance: float = ONE_GREY_STEP,
    ):
        # Areas are shares of the image already: there are no pixels to scale.
        super().__init__(keep=0.0, foreground=foreground, clip=clip, tolerance=tolerance, design_size=None)
        if len(area) != 2 or not 0 < area[0] <= area[1] < 1:
            raise OptionError(f"area is {list(area)}; expected the smallest and the largest share of the image, between 0 and 1.")
        for name, aspect in (("standing", standing), ("lying", lying)):
            if len(aspect) != 2 or not 0 < aspect[0] <= aspect[1] < float("inf"):
                raise OptionError(f"{name} is {list(aspect)}; expected the smallest and the largest width over height, above 0.")
        if not 0 <= jitter <= 0.5:
            raise OptionError(f"jitter is {jitter}; expected a share from 0 to 0.5.")
        self.area, self.standing, self.lying, self.jitter = tuple(area), tuple(standing), tuple(lying), jitter

    def _draw(self, image: Tensor, tissue: Tensor | None, generator: torch.Generator | None) -> tuple[Region, Tensor]:
        size = (image.shape[-2], image.shape[-1])
        draws = uniform(generator, 11, len(image))
        box = self._box(draws[:3], size)
        source, corner = (place(at, box, size, tissue=tissue) for at in (draws[3:5], draws[5:7]))
        patches = box_patches(*box, image.device)
        region, values = patches.at(corner, image), patches.at(source, image).read(image)
        if self.jitter:
            values = jitter_colours(values, region.patches.images(), box_mean(image, source, box), draws[7:], self.jitter)
        return region, values

    def _box(self, draws: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Heights and widths from three draws each."""
        area = (self.area[0] + draws[0] * (self.area[1] - self.area[0])) * (size[0] * size[1])
        shortest, longest = torch.tensor((self.standing, self.lying))[(draws[1] < 0.5).long()].T
        aspect = shortest + draws[2] * (longest - shortest)
        height, width = (
            length.round().long().clamp(1, side)
            for length, side in zip(((area / aspect).sqrt(), (area * aspect).sqrt()), size, strict=True)
        )
        return height, width
