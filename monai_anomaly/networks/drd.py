"""DRD: dual reverse distillation, one student that decodes normal and disturbed features (Neurocomputing 624, 2025, 129479)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..transforms.pseudo import PseudoAbnormal
from .decoder import Decoder
from .features import Features
from .fusion import MFCF
from .system import System
from .teacher import Teacher

__all__ = ["DRD"]


class DRD(System):
    """Cascade fusion and decoder, shared by a normal and an abnormal branch.

    ::

        S = D(MFCF(T_1, T_2, T_3))
        A = D(MFCF(N'_1, N'_2, N'_3)),   N'_l = N_l + 0.1 e_l,   e_l standard normal

    The branches are two calls, the clean one first: each has its own batch statistics, and both update the running ones. The noise is drawn from torch's
    global generator, which training seeds for each epoch and process.

    ``variant="reference"``: the released code binds a second name to the list of ``N_l`` and overwrites it with ``N'_l``, so that its segmentation loss
    compares with the disturbed features; the figure draws the comparison with the undisturbed ones, which is ``variant="paper"``.

    Args:
        teacher: a teacher with three stages; the released code runs the fourth and drops its result.
        noise: standard deviation of the disturbance; 0.1 as released.
        variant: ``"paper"`` or ``"reference"``: which features are handed on as those of the pseudo-abnormal image.
        deconv_kernel: see :class:`~monai_anomaly.networks.Decoder`.
        blocks: see :class:`~monai_anomaly.networks.Decoder`.

    Raises:
        OptionError: another number of the teacher's stages, or an option out of bounds.

    Example:
        >>> system, image = DRD(Teacher("resnet18", weights="random", stages=3)), torch.zeros(1, 3, 64, 64)
        >>> features = system(image, PseudoAbnormal(image + 1, torch.ones(1, 1, 64, 64, dtype=torch.bool)))
        >>> [tuple(a.shape) for a in features.pseudo_student]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4)]
    """

    stages = 3
    needs_pseudo = True

    def __init__(
        self, teacher: Teacher, noise: float = 0.1, variant: str = "paper", deconv_kernel: int = 2, blocks: Sequence[int] | None = None
    ):
        super().__init__(teacher)
        if not 0 <= noise <= 10:
            raise OptionError(f"noise is {noise}; expected a standard deviation from 0 (none) to 10.")
        if variant not in ("paper", "reference"):
            raise OptionError(f"variant is {variant!r}; expected 'paper' or 'reference'.")
        self.noise, self.variant = float(noise), variant
        self.fusion = MFCF(teacher)
        self.student = Decoder(teacher, deconv_kernel, blocks)

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
        return {"noise": self.noise, "variant": self.variant, **self.student.config}

    def forward(self, image: Tensor, pseudo: PseudoAbnormal | None = None) -> Features:
        """Map ``(B, 3, H, W)``, H and W multiples of 32, to the features of levels 1 to 3."""
        if pseudo is None:
            teacher = self.teacher(image)
            return Features(teacher=teacher, student=self.student(self.fusion(*teacher)))
        teacher, abnormal = self.teacher.pair(image, pseudo.image)
        # Drawn into contiguous memory: into channels-last one torch draws number by number, nine times as slowly.
        disturbed = tuple(torch.add(n, torch.randn_like(n, memory_format=torch.contiguous_format), alpha=self.noise) for n in abnormal)
        return Features(
            teacher=teacher,
            student=self.student(self.fusion(*teacher)),
            pseudo_teacher=abnormal if self.variant == "paper" else disturbed,
            pseudo_student=self.student(self.fusion(*disturbed)),
            image=image,
            pseudo=pseudo,
        )
