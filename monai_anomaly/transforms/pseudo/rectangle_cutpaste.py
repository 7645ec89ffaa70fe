"""The original CutPaste: a rectangle of the image pasted elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .jitter import JitteredPaste
from .placing import place, uniform
from .region import Region, box_patches

__all__ = ["RectangleCutPaste"]


@dataclass(kw_only=True, eq=False)
class RectangleCutPaste(JitteredPaste):
    """Paste a rectangle of the image, its colours a little off, elsewhere in it.

    Its area is a share of the image's, its width over its height comes from one of two ranges, lying or standing, with equal chance; sides longer than the
    image's are cut to it. Source and destination are uniform.

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

    area: Sequence[float] = (0.02, 0.15)
    """Smallest and largest area as a share of the image."""
    standing: Sequence[float] = (0.3, 1.0)
    """Smallest and largest width over height of a standing rectangle."""
    lying: Sequence[float] = (1.0, 3.3)
    """The same of a lying one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.area) != 2 or not 0 < self.area[0] <= self.area[1] < 1:
            raise OptionError(f"area is {list(self.area)}; expected the smallest and the largest share of the image, between 0 and 1.")
        for name, aspect in (("standing", self.standing), ("lying", self.lying)):
            if len(aspect) != 2 or not 0 < aspect[0] <= aspect[1] < float("inf"):
                raise OptionError(f"{name} is {list(aspect)}; expected the smallest and the largest width over height, above 0.")

    def _draw(self, image: Tensor, tissue: Tensor | None, generator: torch.Generator | None) -> tuple[Region, Tensor]:
        size = (image.shape[-2], image.shape[-1])
        draws = uniform(generator, 11, len(image))
        box = self._box(draws[:3], size)
        source, corner = (place(at, box, size, tissue=tissue) for at in (draws[3:5], draws[5:7]))
        patches = box_patches(*box, image.device)
        region, values = patches.at(corner, image), patches.at(source, image).read(image)
        return region, self._jittered(values, patches, image, source, box, draws[7:])

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
