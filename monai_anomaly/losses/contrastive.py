"""Near the teacher of the clean image, far from that of the disturbed one, weighed by scale (SCRD4AD, ICLR 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import OptionError
from ..networks import Features
from .cosine import cosine_distance, level_map

__all__ = ["ContrastiveLoss"]


class ContrastiveLoss(nn.Module):
    r"""Ratio of the student's distances to the teacher's features of the clean and of the pseudo-abnormal image.

    .. math:: L = \frac{\sum_l \overline{w_l \, d(T_l, S_l)}}{\sum_l \overline{w_l \, d(N_l, S_l)}}

    with the mean over the batch taken before the ratio. ``variant="paper"``: the weights multiply the distances, so the head that makes them learns.
    ``variant="reference"`` (the released code): they multiply both arguments inside the cosine, which does not depend on them; the head learns nothing
    and the ratio is that of unweighted distances.

    Args:
        similarity: ``"global"``: one cosine per image and level over all ``C*H*W`` values, as the released code has it; ``"pixel"``: the mean over pixels
            of cosines over the channels.
        variant: ``"paper"`` or ``"reference"``.

    Raises:
        OptionError: an unknown similarity or variant.

    Example:
        >>> t, s = ((torch.rand(2, 8, 4, 4),) for _ in range(2))
        >>> ContrastiveLoss()(Features(teacher=t, student=s, pseudo_teacher=t, scale_weights=torch.ones(2, 1))).item()
        1.0
    """

    def __init__(self, similarity: str = "global", variant: str = "paper"):
        super().__init__()
        if similarity not in ("global", "pixel"):
            raise OptionError(f"similarity is {similarity!r}; expected 'global' or 'pixel'.")
        if variant not in ("paper", "reference"):
            raise OptionError(f"variant is {variant!r}; expected 'paper' or 'reference'.")
        self.similarity, self.variant = similarity, variant

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a batch of :class:`~monai_anomaly.networks.Features`.

        Raises:
            OptionError: the system has no scale weights, or was not given pseudo-abnormal images.
        """
        pseudo_teacher, weights = features.required("pseudo_teacher", "scale_weights", by="ContrastiveLoss")
        near = self._weighted(features.teacher, features.student, weights)
        far = self._weighted(pseudo_teacher, features.student, weights)
        # Where a student equals the disturbed teacher the denominator is 0, or below by rounding.
        return near / far.clamp_min(1e-8)

    def _weighted(self, teacher: tuple[Tensor, ...], student: tuple[Tensor, ...], weights: Tensor) -> Tensor:
        total = []
        for t, s, w in zip(teacher, student, weights.unbind(dim=1), strict=True):
            if self.variant == "paper":
                total.append((w * self._distance(t.detach(), s)).mean())
            else:
                inside = w[:, None, None, None]
                total.append(self._distance(inside * t.detach(), inside * s).mean())
        return torch.stack(total).sum()

    def _distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        if self.similarity == "pixel":
            return level_map(teacher, student).mean(dim=(1, 2))
        return cosine_distance(teacher, student, (1, 2, 3))
