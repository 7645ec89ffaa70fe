"""The original CutPaste's scar: a thin strip of the image, turned and pasted elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import OptionError
from .base import PatchInPixels
from .jitter import JitteredPaste
from .placing import check_fit, integers, place, uniform
from .region import Patches, Region

__all__ = ["ScarCutPaste"]


@dataclass(kw_only=True, eq=False)
class ScarCutPaste(JitteredPaste, PatchInPixels):
    """Paste a thin upright strip of the image elsewhere in it, turned, its colours a little off.

    Values come from the nearest pixel of the strip; pixels are never repeated outside it. Source and destination are uniform.

    Raises:
        OptionError: an option outside its values.

    Source:
        C.-L. Li et al., CutPaste, CVPR 2021, section 2.1 and appendix A.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> out = ScarCutPaste()(torch.rand(2, 3, 64, 64, generator=generator), generator)
        >>> out.image.shape, out.mask.flatten(1).any(dim=1).tolist()
        (torch.Size([2, 3, 64, 64]), [True, True])
    """

    width: Sequence[int] = (2, 16)
    """Smallest and largest width of the strip in pixels."""
    length: Sequence[int] = (10, 25)
    """The same of its length."""
    rotation_deg: float = 45.0
    """It is turned by up to this angle to either side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, ends in (("width", self.width), ("length", self.length)):
            if len(ends) != 2 or not 1 <= ends[0] <= ends[1]:
                raise OptionError(f"{name} is {list(ends)}; expected the smallest and the largest in pixels, from 1 upwards.")
        if not 0 <= self.rotation_deg <= 90:
            raise OptionError(f"rotation_deg is {self.rotation_deg}; expected degrees from 0 to 90.")

    def _draw(self, image: Tensor, tissue: Tensor | None, generator: torch.Generator | None) -> tuple[Region, Tensor]:
        size, scale = (image.shape[-2], image.shape[-1]), self._scale(image)
        draws = uniform(generator, 11, len(image))
        (narrow, wide), (short, long) = ([max(1, round(end * scale)) for end in ends] for ends in (self.width, self.length))
        diagonal = math.ceil(math.hypot(wide, long)) + 1
        check_fit(diagonal, diagonal, size, free=0)
        strip = integers(draws[0], short, long), integers(draws[1], narrow, wide)
        angle = (draws[2] * 2 - 1) * math.radians(self.rotation_deg)
        within, turned, box = _turned_strip(*strip, angle, image.device)
        source, corner = place(draws[3:5], strip, size, tissue=tissue), place(draws[5:7], box, size, tissue=tissue)
        region, values = turned.at(corner, image), within.at(source, image).read(image)
        return region, self._jittered(values, turned, image, source, strip, draws[7:])


def _turned_strip(height: Tensor, width: Tensor, angle: Tensor, device: torch.device) -> tuple[Patches, Patches, tuple[Tensor, Tensor]]:
    """Strips turned about their centres.

    Returns:
        Pixels within the upright strips, the pixels that they land on, one for one, within the boxes around the turned strips, and the heights and
        widths of these boxes.
    """
    cos, sin = angle.cos(), angle.sin()
    reach = height * cos + width * sin.abs(), width * cos + height * sin.abs()
    # An even number of rows and columns more or less than the strip: the centre of both is then a pixel, or a corner of pixels, of both; small strips
    # would fall between the pixels otherwise.
    box = height + 2 * ((reach[0] - height) / 2).ceil().long(), width + 2 * ((reach[1] - width) / 2).ceil().long()
    rows, columns = (torch.arange(int(side.max())) for side in box)
    down = (rows - (box[0][:, None] - 1) / 2)[:, :, None]
    across = (columns - (box[1][:, None] - 1) / 2)[:, None, :]
    cos, sin, height, width = (part[:, None, None] for part in (cos, sin, height, width))
    row = (down * cos - across * sin + height / 2).floor().long()
    column = (across * cos + down * sin + width / 2).floor().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    # Boxes smaller than the largest have rows and columns too many.
    inside &= (rows < box[0][:, None])[:, :, None] & (columns < box[1][:, None])[:, None, :]
    image, y, x = inside.nonzero(as_tuple=True)
    one = torch.ones_like(image)
    upright = Patches.of_runs(image, row[image, y, x], column[image, y, x], one, device)
    return upright, Patches.of_runs(image, y, x, one, device), box
