"""RD4AD: reverse distillation from a one-class embedding (CVPR 2022), the baseline of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .bottleneck import OCBE
from .decoder import Decoder
from .features import Features
from .system import System
from .teacher import Teacher

__all__ = ["RD4AD"]


class RD4AD(System):
    """The student decodes what the one-class bottleneck lets through of the teacher's features; there are no skip connections.

    ::

        phi = OCBE(T_1, T_2, T_3)
        S_1, S_2, S_3 = D(phi)

    Args:
        teacher: a teacher with three stages; the released code runs the fourth and drops its result.
        deconv_kernel: see :class:`~monai_anomaly.networks.Decoder`.
        blocks: see :class:`~monai_anomaly.networks.Decoder`.

    Raises:
        OptionError: another number of the teacher's stages, or an option of the decoder out of bounds.

    Example:
        >>> import torch
        >>> features = RD4AD(Teacher("resnet18", weights="random", stages=3))(torch.zeros(1, 3, 64, 64))
        >>> [tuple(s.shape) for s in features.student]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4)]
    """

    stages = 3

    def __init__(self, teacher: Teacher, deconv_kernel: int = 2, blocks: Sequence[int] | None = None):
        super().__init__(teacher)
        self.bottleneck = OCBE(teacher)
        self.student = Decoder(teacher, deconv_kernel, blocks)

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
        return self.student.config

    def forward(self, image: Tensor) -> Features:
        """Map ``(B, 3, H, W)``, H and W multiples of 32, to the features of levels 1 to 3."""
        teacher = self.teacher(image)
        phi = self.bottleneck(*teacher)
        return Features(teacher=teacher, student=self.student(phi))
