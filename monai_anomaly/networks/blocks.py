"""What bottlenecks and decoder are built from, besides the teacher's own residual blocks."""

from __future__ import annotations

from torch import nn

from .teacher import Teacher

__all__ = ["bottom_channels", "conv_norm_relu", "initialise_convolutions", "residual_stage"]

_PLANES = 512


def bottom_channels(teacher: Teacher) -> int:
    """Channels of a ResNet's stage 4, from whose shape the decoder starts, whether the teacher runs that stage or not.

    Example:
        >>> bottom_channels(Teacher("wide_resnet50_2", weights=None, stages=3))
        2048
    """
    channels: int = _PLANES * teacher.block.expansion
    return channels


def conv_norm_relu(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A 3 x 3 convolution of padding 1 without bias, batch normalisation and ReLU.

    Example:
        >>> import torch
        >>> tuple(conv_norm_relu(4, 8, stride=2)(torch.zeros(1, 4, 16, 16)).shape)
        (1, 8, 8, 8)
    """
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )


def residual_stage(teacher: Teacher, channels: int) -> nn.Sequential:
    """A stage as the teacher's fourth: its own kind of block, as many of them, half the size, to the shape that the decoder starts from.

    Args:
        teacher: only its block kind, width, groups and block count are read.
        channels: of the stage's input.

    Example:
        >>> import torch
        >>> stage = residual_stage(Teacher("resnet18", weights=None, stages=3), 768)
        >>> len(stage), tuple(stage.eval()(torch.zeros(1, 768, 4, 4)).shape)
        (2, (1, 512, 2, 2))
    """
    out_channels = bottom_channels(teacher)
    shortcut = nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm2d(out_channels))
    first = teacher.block(channels, _PLANES, stride=2, downsample=shortcut, **teacher.block_options)
    return nn.Sequential(first, *(teacher.block(out_channels, _PLANES, **teacher.block_options) for _ in range(teacher.blocks[3] - 1)))


def initialise_convolutions(module: nn.Module) -> None:
    """Kaiming-normal weights (fan out, ReLU gain) for plain convolutions, as all released codes draw those of bottleneck and decoder.

    Transposed convolutions keep torch's default (Kaiming-uniform, a = sqrt 5): the released codes' test of the type does not match them. Batch
    normalisation starts with weight 1 and bias 0, which is torch's default too.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
