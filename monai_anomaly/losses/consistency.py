"""Multi-scale anomaly consistency (MAC): the levels should agree on where the anomaly is (Skip-TS, eq. 4)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..networks import Features
from .cosine import level_map

__all__ = ["ConsistencyLoss"]

_RELEASED_SIZE = 64


class ConsistencyLoss(nn.Module):
    r"""Squared difference of the level maps, each brought to the size of level 1.

    ``variant="paper"``, eq. (4): mean over batch and pixels of :math:`\sum_{i<j} (M_i^{bi} - M_j^{bi})^2`.

    ``variant="reference"`` (the released code): :math:`\sum_{i<j} |q_i - q_j|` of scalars, where :math:`q_l` is the mean squared difference of a
    level's *features*; deeper levels are up-sampled to 64 x 64 first. It has no notion of position.

    Args:
        variant: ``"paper"`` or ``"reference"``.
        pairs: ``"unordered"`` counts each pair once; ``"ordered"`` twice (the paper leaves it open), which equals a doubled weight.
        align_corners: of the bilinear up-sampling; true in the released code.

    Raises:
        OptionError: an unknown variant or pair rule.

    Example:
        >>> features = Features(teacher=tuple(torch.rand(2, 4, n, n) for n in (8, 4, 2)), student=tuple(torch.rand(2, 4, n, n) for n in (8, 4, 2)))
        >>> ConsistencyLoss()(features).item() > 0
        True
    """

    def __init__(self, variant: str = "paper", pairs: str = "unordered", align_corners: bool = True):
        super().__init__()
        if variant not in ("paper", "reference"):
            raise OptionError(f"variant is {variant!r}; expected 'paper' or 'reference'.")
        if pairs not in ("unordered", "ordered"):
            raise OptionError(f"pairs is {pairs!r}; expected 'unordered' or 'ordered'.")
        self.variant, self.pairs, self.align_corners = variant, pairs, align_corners

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a batch of :class:`~monai_anomaly.networks.Features`."""
        teacher = [t.detach() for t in features.teacher]
        loss = self._paper(teacher, features.student) if self.variant == "paper" else self._reference(teacher, features.student)
        return 2 * loss if self.pairs == "ordered" else loss

    def _paper(self, teacher: list[Tensor], student: tuple[Tensor, ...]) -> Tensor:
        size = teacher[0].shape[-2:]
        maps = [self._resize(level_map(t, s).unsqueeze(1), size) for t, s in zip(teacher, student, strict=True)]
        return torch.stack([F.mse_loss(a, b) for a, b in combinations(maps, 2)]).sum()

    def _reference(self, teacher: list[Tensor], student: tuple[Tensor, ...]) -> Tensor:
        size = (_RELEASED_SIZE, _RELEASED_SIZE)
        native = [F.mse_loss(s, t) for t, s in zip(teacher, student, strict=True)]
        enlarged = [F.mse_loss(self._resize(s, size), self._resize(t, size)) for t, s in zip(teacher[1:], student[1:], strict=True)]
        # The finer level of a pair is taken at its own size, the coarser one up-sampled.
        return torch.stack([(enlarged[j - 1] - native[i]).abs() for i, j in combinations(range(len(native)), 2)]).sum()

    def _resize(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        if tuple(x.shape[-2:]) == tuple(size):
            return x
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)
