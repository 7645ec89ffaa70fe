"""What a system hands to its loss and to its anomaly map."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["Features"]


class Features(NamedTuple):
    """Feature pairs of one batch; each field is a tuple over levels, finest first, of tensors ``(B, C_l, H_l, W_l)``.

    The letters are SPEC's: teacher T and student S of the clean image, teacher N and student A of the pseudo-abnormal image, projections P.
    A system fills what its loss and map need.
    """

    teacher: tuple[Tensor, ...]
    """T_l: the frozen teacher's features, without graph."""
    student: tuple[Tensor, ...]
    """S_l: the student's features of the same shapes."""
    pseudo_teacher: tuple[Tensor, ...] | None = None
    """N_l: teacher features of the pseudo-abnormal image."""
    pseudo_student: tuple[Tensor, ...] | None = None
    """A_l: student features of the pseudo-abnormal branch."""
    projected: tuple[Tensor, ...] | None = None
    """P_l: projected features."""
