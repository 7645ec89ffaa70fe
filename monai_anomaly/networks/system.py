"""What all systems have in common, and the list of them that checkpoints may name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from ..errors import OptionError
from .teacher import Teacher

__all__ = ["SYSTEMS", "System"]

SYSTEMS: dict[str, type[System]] = {}
"""The systems that a checkpoint may name; nothing else is ever built from one."""


class System(nn.Module, ABC):
    """A frozen teacher and a student, from images to feature pairs. Each subclass is listed in ``SYSTEMS`` under its own name.

    ``forward(image)`` maps teacher-normalised images ``(B, 3, H, W)``, H and W multiples of 32, to the :class:`~monai_anomaly.networks.Features` of levels
    1 to 3. Where ``needs_pseudo`` is set it also takes the same images with pseudo-anomalies, ``forward(image, pseudo)``, in training; without them only
    the clean branch is computed, as in evaluation.

    Args:
        teacher: a teacher with exactly ``stages`` stages: more would be run for nothing.

    Raises:
        OptionError: the teacher has another number of stages.

    Example:
        >>> from monai_anomaly.networks import SYSTEMS
        >>> SYSTEMS["SkipTS"].stages
        4
    """

    stages: ClassVar[int]
    """Stages of the teacher that the system runs."""
    needs_pseudo: ClassVar[bool] = False
    """Whether it is trained with pseudo-abnormal images beside the clean ones."""
    weighs_levels: ClassVar[bool] = False
    """Whether its features have ``scale_weights``, which a map with fusion ``"weighted"`` needs."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        known = SYSTEMS.setdefault(cls.__name__, cls)
        if known.__module__ != cls.__module__:
            raise OptionError(f"{cls.__module__} defines a system {cls.__name__}, as {known.__module__} does; expected a name of its own.")
        SYSTEMS[cls.__name__] = cls

    def __init__(self, teacher: Teacher):
        super().__init__()
        if teacher.stages != self.stages:
            raise OptionError(
                f"{type(self).__name__} uses the teacher's stages 1 to {self.stages}; the teacher given has {teacher.stages} stages: build it with "
                f"stages={self.stages}."
            )
        self.teacher = teacher

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the system."""
