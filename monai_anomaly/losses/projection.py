"""Projected features of the disturbed image should be the teacher's of the clean one (ESC-DRKD, Neurocomputing 2025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..networks import Features
from .cosine import level_map

__all__ = ["ProjectionLoss"]


class ProjectionLoss(nn.Module):
    r"""Reconstruction by the projections, summed over the levels that have one.

    :math:`L_{rec} = \sum_l` mean over batch and pixels of :math:`1 - \cos_c(P_l, T_l)`. The released code computes the same.

    Example:
        >>> t = (torch.rand(2, 8, 4, 4), torch.rand(2, 8, 2, 2))
        >>> features = Features(teacher=t, student=t, projected=(None, torch.rand(2, 8, 2, 2)))
        >>> torch.equal(ProjectionLoss()(features), level_map(t[1], features.projected[1]).mean())
        True
    """

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a batch of :class:`~monai_anomaly.networks.Features`.

        Raises:
            OptionError: the system has no projections.
        """
        (projected,) = features.required("projected", by="ProjectionLoss")
        levels = zip(features.teacher, projected, strict=True)
        return torch.stack([level_map(t.detach(), p).mean() for t, p in levels if p is not None]).sum()
