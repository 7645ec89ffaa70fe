"""Skip-TS: a teacher encoder and a student decoder joined by skip connections (IEEE TIM 2024, Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..errors import OptionError
from .decoder import Decoder
from .features import Features
from .system import System
from .teacher import Teacher

__all__ = ["SkipTS"]


class SkipTS(System):
    """Direct reverse knowledge distillation (DRKD) with skip connections from the teacher into the student.

    ::

        S_3 = D3(T_4)
        S_2 = D2(S_3 + T_3)
        S_1 = D1(S_2 + T_2)

    The paper draws a ReLU on each sum; both summands come out of one, so it changes nothing and is left out. ``T_1`` is a target only.

    Args:
        teacher: a teacher with all four stages.
        skips: 2 (the paper), 1 (only the ``T_3`` skip), 0 (DRKD without skips): Table III of the paper.
        deconv_kernel: see :class:`~monai_anomaly.networks.Decoder`.
        blocks: see :class:`~monai_anomaly.networks.Decoder`.

    Raises:
        OptionError: another number of skips, or of the teacher's stages.

    Example:
        >>> import torch
        >>> features = SkipTS(Teacher("resnet18", weights="random"))(torch.zeros(1, 3, 64, 64))
        >>> [tuple(s.shape) for s in features.student]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4)]
    """

    stages = 4

    def __init__(self, teacher: Teacher, skips: int = 2, deconv_kernel: int = 2, blocks: Sequence[int] | None = None):
        super().__init__(teacher)
        if skips not in (0, 1, 2):
            raise OptionError(f"skips is {skips}; expected 2 (T_3 and T_2, the paper), 1 (T_3) or 0 (none).")
        self.student = Decoder(teacher, deconv_kernel, blocks)
        self.skips = skips

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
        return {"skips": self.skips, **self.student.config}

    def forward(self, image: Tensor) -> Features:
        """Map ``(B, 3, H, W)``, H and W multiples of 32, to the features of levels 1 to 3."""
        t1, t2, t3, t4 = self.teacher(image)
        student = self.student(t4, skip3=t3 if self.skips >= 1 else None, skip2=t2 if self.skips == 2 else None)
        return Features(teacher=(t1, t2, t3), student=student)
