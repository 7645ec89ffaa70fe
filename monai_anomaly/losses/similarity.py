"""The student's features should be the teacher's (Skip-TS, eq. 2 and 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..networks import Features
from .cosine import cosine_distance, level_map

__all__ = ["SimilarityLoss"]


class SimilarityLoss(nn.Module):
    r"""Feature distillation summed over the levels, eq. (2) and (3); also the loss of RD4AD (CVPR 2022) and the distillation of ESC-DRKD and DRD.

    ``variant="paper"``: :math:`L_l` is the mean over batch and pixels of :math:`M_l`, :math:`L_{sim} = \sum_l L_l`.
    ``variant="reference"`` (the released code): one cosine per image over all ``C*H*W`` values of a level, so pixels with large features rule.

    Args:
        measure: ``"cosine"``; ``"mse"`` (mean squared difference of the features) and ``"half"`` (half of each) are the paper's ablation.
        variant: ``"paper"`` or ``"reference"``.

    Raises:
        OptionError: an unknown measure or variant.

    Example:
        >>> t = (torch.rand(2, 8, 4, 4),)
        >>> round(SimilarityLoss()(Features(teacher=t, student=t)).item(), 6) == 0
        True
    """

    def __init__(self, measure: str = "cosine", variant: str = "paper"):
        super().__init__()
        if measure not in ("cosine", "mse", "half"):
            raise OptionError(f"measure is {measure!r}; expected 'cosine', 'mse' or 'half'.")
        if variant not in ("paper", "reference"):
            raise OptionError(f"variant is {variant!r}; expected 'paper' or 'reference'.")
        self.measure, self.variant = measure, variant

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a batch of :class:`~monai_anomaly.networks.Features`."""
        return torch.stack([self._level(t.detach(), s) for t, s in zip(features.teacher, features.student, strict=True)]).sum()

    def _level(self, teacher: Tensor, student: Tensor) -> Tensor:
        if self.measure == "mse":
            return F.mse_loss(student, teacher)
        if self.measure == "half":
            return 0.5 * F.mse_loss(student, teacher) + 0.5 * self._cosine(teacher, student)
        return self._cosine(teacher, student)

    def _cosine(self, teacher: Tensor, student: Tensor) -> Tensor:
        if self.variant == "paper":
            return level_map(teacher, student).mean()
        return cosine_distance(teacher, student, (1, 2, 3)).mean()
