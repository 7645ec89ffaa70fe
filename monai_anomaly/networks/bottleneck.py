"""OCBE: the one-class bottleneck embedding of RD4AD and SCRD4AD (CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import conv_norm_relu, initialise_convolutions, residual_stage
from .teacher import Teacher

__all__ = ["OCBE"]


class OCBE(nn.Module):
    """Brings the features of three stages to one size and condenses them to the shape of the teacher's stage 4.

    ::

        a   = conv2(conv1(T_1))          two 3 x 3 convolutions of stride 2
        b   = conv3(T_2)                 one
        phi = residual([a, b, T_3])      the teacher's own kind of residual blocks, half the size

    The paper's figure has a 1 x 1 convolution behind the concatenation. The released code allocates one, calls it nowhere, and leaves the reduction to the
    first residual block; so does this module, without the unused convolution (8,392,704 parameters for a WideResNet50-2).

    Args:
        teacher: a teacher with at least three stages; only its channels and block kind are read.

    Example:
        >>> teacher = Teacher("resnet18", weights="random", stages=3)
        >>> tuple(OCBE(teacher)(*teacher(torch.zeros(1, 3, 64, 64))).shape)
        (1, 512, 2, 2)
    """

    def __init__(self, teacher: Teacher):
        super().__init__()
        c1, c2, c3 = teacher.channels[:3]
        self.conv1 = conv_norm_relu(c1, c2, stride=2)
        self.conv2 = conv_norm_relu(c2, c3, stride=2)
        self.conv3 = conv_norm_relu(c2, c3, stride=2)
        self.residual = residual_stage(teacher, 3 * c3)
        initialise_convolutions(self)

    def forward(self, t1: Tensor, t2: Tensor, t3: Tensor) -> Tensor:
        """Map the features of stages 1 to 3 to ``(B, C_4, H_4, W_4)``."""
        a = self.conv2(self.conv1(t1))
        b = self.conv3(t2)
        phi: Tensor = self.residual(torch.cat([a, b, t3], dim=1))
        return phi
