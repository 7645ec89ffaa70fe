"""Each channel should be active where the teacher's is (DRD, Neurocomputing 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import OptionError
from ..networks import Features
from .cosine import cosine_distance

__all__ = ["SpatialLoss"]


class SpatialLoss(nn.Module):
    r"""Distance of the channels' spatial patterns, summed over the levels.

    :math:`\sum_l` mean over batch and channels of :math:`1 - \cos_s(T_l, S_l)`, one cosine per channel over all positions. With the student's features of
    the clean image it is half of DRD's distillation (:class:`SimilarityLoss` is the other half); with those of the disturbed image it is the
    reconstruction, :math:`\cos_s(T_l, A_l)`. The released code computes the same: it is what its loss for lists makes of a tensor.

    Args:
        student: ``"student"`` (S, of the clean image) or ``"pseudo_student"`` (A, of the pseudo-abnormal one).

    Raises:
        OptionError: another name.

    Example:
        >>> t = (torch.rand(2, 8, 4, 4),)
        >>> round(SpatialLoss()(Features(teacher=t, student=(2 * t[0],))).item(), 6) == 0
        True
    """

    def __init__(self, student: str = "student"):
        super().__init__()
        if student not in ("student", "pseudo_student"):
            raise OptionError(f"student is {student!r}; expected 'student' or 'pseudo_student'.")
        self.student = student

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a batch of :class:`~monai_anomaly.networks.Features`.

        Raises:
            OptionError: the features asked for are not there.
        """
        (student,) = features.required(self.student, by="SpatialLoss")
        levels = zip(features.teacher, student, strict=True)
        return torch.stack([cosine_distance(t.detach(), s, (2, 3)).mean() for t, s in levels]).sum()
