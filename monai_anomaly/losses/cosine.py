"""How far the student's features are from the teacher's (Skip-TS, eq. 1 to 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..networks import Features

__all__ = ["SimilarityLoss", "cosine_distance", "level_map"]


def cosine_distance(teacher: Tensor, student: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    r"""One minus the cosine of two features along some axes: channels (1), positions (2, 3), or a whole level (1, 2, 3).

    Three sums, all taken the same way: nothing of the features' size is kept for the backward pass, and equal features are at distance 0 within rounding.
    (:func:`torch.nn.functional.cosine_similarity` keeps normalised copies, and over the million values of a level it is 1e-5 off, which a ratio of small
    distances cannot bear.)

    Args:
        teacher: ``(B, C, H, W)``.
        student: ``(B, C, H, W)``.
        dim: the axes that a vector runs along.

    Returns:
        The distances along the other axes, in [0, 2]. A zero vector has distance 1.

    Example:
        >>> cosine_distance(torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4), (1, 2, 3)).tolist()
        [0.0, 0.0]
    """
    return 1 - (teacher * student).sum(dim) / (_norm(teacher, dim) * _norm(student, dim))


def _norm(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    # Guarded below the root, where the gradient of a zero vector is 0 and not infinite.
    return (x * x).sum(dim).clamp_min(1e-16).sqrt()


def level_map(teacher: Tensor, student: Tensor) -> Tensor:
    r"""Cosine distance of two features at each pixel, eq. (1): :math:`M_l = 1 - \cos_c(T_l, S_l)`.

    Args:
        teacher: ``(B, C, H, W)``.
        student: ``(B, C, H, W)``.

    Returns:
        ``(B, H, W)``, in [0, 2]; in [0, 1] for features that are not negative. A zero vector has distance 1.

    Example:
        >>> level_map(torch.tensor([[[[3.0]], [[4.0]]]]), torch.tensor([[[[4.0]], [[3.0]]]])).item()
        0.0400...
    """
    return cosine_distance(teacher, student, 1)


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
