"""ESC-DRKD: the student is guided by projections that were trained to take anomalies away (Neurocomputing 651, 2025, 130994)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import OptionError
from ..transforms.pseudo import PseudoAbnormal
from .decoder import Decoder
from .features import Features
from .projection import Projection
from .system import System
from .teacher import Teacher

__all__ = ["ESCDRKD"]


class ESCDRKD(System):
    """A student decoder like Skip-TS', whose skips pass through a projection each.

    ::

        training                                 evaluation
        P_l = proj_l(N_l)                        P_l = proj_l(T_l)
        S_3 = D3(T_4)                            the same, T_4 of the image that is judged
        S_2 = D2(S_3 + P_3)
        S_1 = D1(S_2 + P_2)

    In training ``T_4`` and the targets are the clean image's, the projections get the pseudo-abnormal one's features ``N`` and are to give back the clean
    ones. Sums pass through no ReLU: projections can be slightly negative. Without pseudo-abnormal images the projections get ``T``, in any mode.

    ``P_1`` reaches neither decoder nor score. The released code trains it all the same, which changes the loss that is reported and nothing else: it is
    built with ``proj_levels=(1, 2, 3)`` only, and computed in training only.

    Args:
        teacher: a teacher with all four stages; the fourth is run for clean images alone.
        proj_levels: ``(2, 3)``, or ``(1, 2, 3)`` as released.
        deconv_kernel: see :class:`~monai_anomaly.networks.Decoder`.
        blocks: see :class:`~monai_anomaly.networks.Decoder`.

    Raises:
        OptionError: other levels, another number of the teacher's stages, or an option of the decoder out of bounds.

    Example:
        >>> import torch
        >>> features = ESCDRKD(Teacher("resnet18", weights="random"))(torch.rand(1, 3, 64, 64))
        >>> [p if p is None else tuple(p.shape) for p in features.projected]
        [None, (1, 128, 8, 8), (1, 256, 4, 4)]
    """

    stages = 4
    needs_pseudo = True

    def __init__(self, teacher: Teacher, proj_levels: Sequence[int] = (2, 3), deconv_kernel: int = 2, blocks: Sequence[int] | None = None):
        super().__init__(teacher)
        if not isinstance(proj_levels, Sequence) or tuple(proj_levels) not in ((2, 3), (1, 2, 3)):
            raise OptionError(f"proj_levels is {proj_levels!r}; expected [2, 3], or [1, 2, 3] as in the released code.")
        self.proj_levels = tuple(proj_levels)
        # Before the student: the recipe's optimiser lists its two groups in this order.
        self.projections = nn.ModuleDict({str(level): Projection(teacher.channels[level - 1]) for level in self.proj_levels})
        self.student = Decoder(teacher, deconv_kernel, blocks)

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
        return {"proj_levels": list(self.proj_levels), **self.student.config}

    def forward(self, image: Tensor, pseudo: PseudoAbnormal | None = None) -> Features:
        """Map ``(B, 3, H, W)``, H and W multiples of 32, to the features of levels 1 to 3."""
        if pseudo is None:
            t1, t2, t3, t4 = self.teacher(image)
            p1, n2, n3 = None, t2, t3
        else:
            (t1, t2, t3, t4), (n1, n2, n3) = self.teacher.pair(image, pseudo.image, 3)
            p1 = self.projections["1"](n1) if 1 in self.proj_levels else None
        p2, p3 = self.projections["2"](n2), self.projections["3"](n3)
        return Features(teacher=(t1, t2, t3), student=self.student(t4, skip3=p3, skip2=p2), projected=(p1, p2, p3))
