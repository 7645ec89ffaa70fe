"""What a system hands to its loss and to its anomaly map."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ..errors import OptionError
from ..transforms.pseudo import PseudoAbnormal

__all__ = ["Features"]


class Features(NamedTuple):
    """Feature pairs of one batch; each field is a tuple over levels, finest first, of tensors ``(B, C_l, H_l, W_l)``.

    The letters are those of the equations: teacher T and student S of the clean image, teacher N and student A of the pseudo-abnormal image, projections P.
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
    projected: tuple[Tensor | None, ...] | None = None
    """P_l: projected features; ``None`` at levels that are not projected."""
    scale_weights: Tensor | None = None
    """w: ``(B, L)``, one weight per image and level, which sum to 1 over the levels."""
    image: Tensor | None = None
    """The clean images ``(B, 3, H, W)``, teacher-normalised, where a loss compares images."""
    pseudo: PseudoAbnormal | None = None
    """The pseudo-abnormal images, teacher-normalised, with their masks, where a loss compares images."""

    def required(self, *names: str, by: str) -> tuple[Any, ...]:
        """Take fields that not every system fills.

        Args:
            names: of the fields.
            by: who needs them, for the message.

        Returns:
            The fields' values, in order.

        Raises:
            OptionError: the system did not fill one of them.

        Example:
            >>> import torch
            >>> levels = (torch.zeros(1, 4, 2, 2),)
            >>> Features(teacher=levels, student=levels).required("scale_weights", by="The weighted map")
            Traceback (most recent call last):
            ...
            monai_anomaly.errors.OptionError: The weighted map needs scale_weights of the features; the system gave only teacher, student: ...
        """
        values = tuple(getattr(self, name) for name in names)
        missing = [name for name, value in zip(names, values, strict=True) if value is None]
        if missing:
            given = ", ".join(name for name, value in zip(self._fields, self, strict=True) if value is not None)
            raise OptionError(
                f"{by} needs {', '.join(missing)} of the features; the system gave only {given}: choose a system that computes them"
                f"{', trained with pseudo-anomalies,' if any(name.startswith('pseudo') for name in missing) else ''} or another rule."
            )
        return values

    def float(self) -> Features:
        """The same features as float32, in which cosines and sums are computed whatever the network's precision was."""

        def wide(levels: tuple[Tensor | None, ...] | None) -> Any:
            return levels and tuple(level if level is None else level.float() for level in levels)

        return self._replace(
            teacher=wide(self.teacher), student=wide(self.student), pseudo_teacher=wide(self.pseudo_teacher), pseudo_student=wide(self.pseudo_student),
            projected=wide(self.projected), scale_weights=None if self.scale_weights is None else self.scale_weights.float(),
        )  # fmt: skip

    def watched(self) -> dict[str, Tensor]:
        """Scalars that belong into the log beside the losses: the mean weight of each level, where a system weighs them."""
        if self.scale_weights is None:
            return {}
        return {f"scale_weight_{level}": weight for level, weight in enumerate(self.scale_weights.detach().mean(dim=0), start=1)}
