"""MFCF: the multi-feature cascade fusion of DRD (Neurocomputing 624, 2025, 129479)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import bottom_channels, conv_norm_relu, initialise_convolutions, residual_stage
from .teacher import Teacher

__all__ = ["MFCF"]


class MFCF(nn.Module):
    """Takes up the features of three stages one after the other, from the finest, and condenses them to the shape of the teacher's stage 4.

    ::

        x_1 = conv1(T_1)                 3 x 3, stride 2
        x_2 = conv2([x_1, T_2])          3 x 3, stride 2, to the channels of stage 4
        x_3 = conv3([x_2, T_3])          3 x 3, stride 1, back to the channels of stage 3
        phi = residual(x_3)              the teacher's own kind of residual blocks, half the size

    The released code allocates a 1 x 1 convolution besides and calls it nowhere; it is left out.

    Args:
        teacher: a teacher with at least three stages; only its channels and block kind are read.

    Example:
        >>> teacher = Teacher("resnet18", weights="random", stages=3)
        >>> tuple(MFCF(teacher)(*teacher(torch.zeros(1, 3, 64, 64))).shape)
        (1, 512, 2, 2)
    """

    def __init__(self, teacher: Teacher):
        super().__init__()
        c1, c2, c3 = teacher.channels[:3]
        c4 = bottom_channels(teacher)
        self.conv1 = conv_norm_relu(c1, c2, stride=2)
        self.conv2 = conv_norm_relu(2 * c2, c4, stride=2)
        self.conv3 = conv_norm_relu(c4 + c3, c3, stride=1)
        self.residual = residual_stage(teacher, c3)
        initialise_convolutions(self)

    def forward(self, t1: Tensor, t2: Tensor, t3: Tensor) -> Tensor:
        """Map the features of stages 1 to 3 to ``(B, C_4, H_4, W_4)``."""
        x1 = self.conv1(t1)
        x2 = self.conv2(torch.cat([x1, t2], dim=1))
        x3 = self.conv3(torch.cat([x2, t3], dim=1))
        phi: Tensor = self.residual(x3)
        return phi
