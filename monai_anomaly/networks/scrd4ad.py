"""SCRD4AD: scale-aware contrastive reverse distillation (ICLR 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import OptionError
from ..transforms.pseudo import PseudoAbnormal
from .blocks import bottom_channels
from .bottleneck import OCBE
from .decoder import Decoder
from .features import Features
from .system import System
from .teacher import Teacher

__all__ = ["SCRD4AD", "ScaleHead"]

LEVELS = 3


class ScaleHead(nn.Module):
    """One weight per image and level from the pooled bottleneck: a linear layer and a softmax.

    Args:
        channels: of the bottleneck's output.
        pooling: ``"max"`` over all positions (what the released training uses) or ``"average"`` (the released variant).
        floor: the least that a weight can be, ``w = floor + (1 - 3 floor) softmax``: the weights still sum to 1, and no level can be dropped altogether.

    Raises:
        OptionError: another pooling, or a floor that leaves the weights no room.

    Example:
        >>> import torch
        >>> weights = ScaleHead(8, floor=0.1)(torch.rand(2, 8, 4, 4))
        >>> tuple(weights.shape), weights.sum().round().item(), (weights >= 0.1).all().item()
        ((2, 3), 2.0, True)
    """

    def __init__(self, channels: int, pooling: str = "max", floor: float = 0.0):
        super().__init__()
        if pooling not in ("max", "average"):
            raise OptionError(f"scale_pooling is {pooling!r}; expected 'max' or 'average'.")
        if not 0 <= floor < 1 / LEVELS:
            raise OptionError(f"weight_floor is {floor}; expected at least 0 (off) and less than 1/{LEVELS}, the mean of the weights.")
        self.pooling, self.floor = pooling, float(floor)
        self.linear = nn.Linear(channels, LEVELS)

    def forward(self, phi: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, 3)``, finest level first."""
        pooled = phi.amax(dim=(2, 3)) if self.pooling == "max" else phi.mean(dim=(2, 3))
        weights = self.linear(pooled).softmax(dim=1)
        return self.floor + (1 - LEVELS * self.floor) * weights if self.floor else weights


class SCRD4AD(System):
    """RD4AD with a noisy teacher to be pushed away from, and a head that weighs the scales.

    ::

        phi = OCBE(T_1, T_2, T_3)
        S_1, S_2, S_3 = D(phi)
        w = softmax(linear(max over positions of phi))

    The noisy teacher is the same frozen teacher, fed with the pseudo-abnormal image. The released code runs bottleneck and decoder on it too and drops the
    result, which leaves its traces in the statistics of batch normalisation; here the teacher alone sees it.

    Args:
        teacher: a teacher with three stages.
        weight_floor: see :class:`ScaleHead`; 0 as published.
        scale_pooling: see :class:`ScaleHead`.
        deconv_kernel: see :class:`~monai_anomaly.networks.Decoder`.
        blocks: see :class:`~monai_anomaly.networks.Decoder`.

    Raises:
        OptionError: another number of the teacher's stages, or an option out of bounds.

    Example:
        >>> import torch
        >>> features = SCRD4AD(Teacher("resnet18", weights="random", stages=3))(torch.zeros(1, 3, 64, 64))
        >>> tuple(features.scale_weights.shape), features.pseudo_teacher
        ((1, 3), None)
    """

    stages = 3
    needs_pseudo = True
    weighs_levels = True

    def __init__(
        self,
        teacher: Teacher,
        weight_floor: float = 0.0,
        scale_pooling: str = "max",
        deconv_kernel: int = 2,
        blocks: Sequence[int] | None = None,
    ):
        super().__init__(teacher)
        self.bottleneck = OCBE(teacher)
        self.scale_head = ScaleHead(bottom_channels(teacher), scale_pooling, weight_floor)
        self.student = Decoder(teacher, deconv_kernel, blocks)

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
        return {"weight_floor": self.scale_head.floor, "scale_pooling": self.scale_head.pooling, **self.student.config}

    def forward(self, image: Tensor, pseudo: PseudoAbnormal | None = None) -> Features:
        """Map ``(B, 3, H, W)``, H and W multiples of 32, to the features of levels 1 to 3."""
        if pseudo is None:
            teacher, noisy = self.teacher(image), None
        else:
            teacher, noisy = self.teacher.pair(image, pseudo.image)
        phi = self.bottleneck(*teacher)
        return Features(teacher=teacher, student=self.student(phi), pseudo_teacher=noisy, scale_weights=self.scale_head(phi))
