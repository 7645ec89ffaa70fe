"""Traditional knowledge distillation: teacher and student both encode (the first row of the Skip-TS paper's Table III)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import OptionError
from .features import Features
from .system import System
from .teacher import Teacher, build_resnet

__all__ = ["TraditionalKD"]


class TraditionalKD(System):
    """An untrained copy of the teacher's architecture that sees the same image and learns the teacher's features of stages 1 to 3.

    Args:
        teacher: a teacher with three stages (``stages=3``: a fourth would be run for nothing).
        seed: seed of the student's initialisation; it must differ from a random teacher's seed, or the student starts as its equal.

    Raises:
        OptionError: a teacher with another number of stages, or of the same seed and untrained.

    Example:
        >>> import torch
        >>> system = TraditionalKD(Teacher("resnet18", weights="random", stages=3), seed=1)
        >>> [tuple(s.shape) for s in system(torch.zeros(1, 3, 64, 64)).student]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4)]
    """

    stages = 3

    def __init__(self, teacher: Teacher, seed: int = 1):
        super().__init__(teacher)
        if teacher.untrained and teacher.seed == seed:
            raise OptionError(f"Teacher and student would both start from seed {seed} and be equal: give the student another seed.")
        self.seed = seed
        resnet = build_resnet(teacher.name, seed)
        self.stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool)
        self.student = nn.ModuleList([resnet.layer1, resnet.layer2, resnet.layer3])

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
        return {"seed": self.seed}

    def forward(self, image: Tensor) -> Features:
        """Map ``(B, 3, H, W)`` to the features of levels 1 to 3."""
        x, student = self.stem(image), []
        for stage in self.student:
            x = stage(x)
            student.append(x)
        return Features(teacher=self.teacher(image), student=tuple(student))
