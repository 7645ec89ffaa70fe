"""The student decoder that all five systems share: a ResNet turned round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from .._torchvision import torchvision
from ..errors import OptionError
from .blocks import initialise_convolutions
from .teacher import Teacher

__all__ = ["Decoder"]

MOST_BLOCKS = 64
"""In a stage; torchvision's deepest ResNet has 36."""

BasicBlock = torchvision.models.resnet.BasicBlock


class Decoder(nn.Module):
    """Three up-sampling stages, from the teacher's stage-4 shape back to the shapes of its stages 3, 2 and 1.

    The first block of a stage doubles the size with transposed convolutions, the others keep the shape; the blocks are the teacher's own kind
    (basic or bottleneck, with its width and groups). ``D3`` is the deepest stage, ``D1`` the finest.

    Args:
        teacher: the teacher that the student mirrors; only its channels and block kind are read.
        deconv_kernel: 2 (the released codes: windows do not overlap) or 3 (the Skip-TS paper's text).
        blocks: blocks of D3, D2 and D1. Default: the teacher's counts of stages 1, 2, 3 in this order, 3-4-6 for a 50-layer teacher, from which all
            published numbers come; ``(6, 4, 3)`` is the true mirror and costs the same multiply-accumulates.

    Raises:
        OptionError: another kernel, or not three block counts from 1 to 64.

    Example:
        >>> import torch
        >>> decoder = Decoder(Teacher("resnet18", weights="random"))
        >>> [tuple(s.shape) for s in decoder(torch.zeros(1, 512, 2, 2))]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4)]
    """

    def __init__(self, teacher: Teacher, deconv_kernel: int = 2, blocks: Sequence[int] | None = None):
        super().__init__()
        if deconv_kernel not in (2, 3):
            raise OptionError(f"deconv_kernel is {deconv_kernel}; expected 2 (released code) or 3 (paper).")
        self.deconv_kernel = deconv_kernel
        blocks = teacher.blocks[:3] if blocks is None else blocks
        if not isinstance(blocks, Sequence) or len(blocks) != 3 or any(type(n) is not int or not 1 <= n <= MOST_BLOCKS for n in blocks):
            raise OptionError(f"blocks is {blocks}; expected three counts of 1 to {MOST_BLOCKS} for D3, D2 and D1, such as 3-4-6.")
        self.blocks = tuple(blocks)
        self.D3 = _stage(teacher, 512, 256, self.blocks[0], deconv_kernel)
        self.D2 = _stage(teacher, 256, 128, self.blocks[1], deconv_kernel)
        self.D1 = _stage(teacher, 128, 64, self.blocks[2], deconv_kernel)
        initialise_convolutions(self)

    @property
    def config(self) -> dict[str, Any]:
        """The options, as plain data for the system's own."""
        return {"deconv_kernel": self.deconv_kernel, "blocks": list(self.blocks)}

    def forward(self, bottom: Tensor, skip3: Tensor | None = None, skip2: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Decode.

        Args:
            bottom: ``(B, C_4, H_4, W_4)``, the input of D3.
            skip3: ``(B, C_3, H_3, W_3)``, added to the output of D3 on its way into D2.
            skip2: ``(B, C_2, H_2, W_2)``, added to the output of D2 on its way into D1.

        Returns:
            ``(S_1, S_2, S_3)``, finest first, each of the shape of the teacher's stage.
        """
        s3 = self.D3(bottom)
        s2 = self.D2(s3 if skip3 is None else s3 + skip3)
        s1 = self.D1(s2 if skip2 is None else s2 + skip2)
        return s1, s2, s3


def _stage(teacher: Teacher, planes_in: int, planes: int, blocks: int, kernel: int) -> nn.Sequential:
    expansion = teacher.block.expansion
    plain = [teacher.block(planes * expansion, planes, **teacher.block_options) for _ in range(blocks - 1)]
    return nn.Sequential(_up_block(teacher, planes_in * expansion, planes, kernel), *plain)


def _up_block(teacher: Teacher, channels: int, planes: int, kernel: int) -> nn.Module:
    """torchvision's residual block whose strided convolution (and shortcut) is a transposed one."""
    shortcut = nn.Sequential(_double(channels, planes * teacher.block.expansion, kernel), nn.BatchNorm2d(planes * teacher.block.expansion))
    block = teacher.block(channels, planes, downsample=shortcut, **teacher.block_options)
    if teacher.block is BasicBlock:
        block.conv1 = _double(channels, planes, kernel)
    else:
        width = block.conv2.out_channels
        block.conv2 = _double(width, width, kernel, groups=teacher.groups)
    return cast(nn.Module, block)


def _double(channels: int, out_channels: int, kernel: int, groups: int = 1) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles height and width exactly."""
    padding = kernel - 2
    return nn.ConvTranspose2d(channels, out_channels, kernel, stride=2, padding=padding, output_padding=padding, groups=groups, bias=False)
