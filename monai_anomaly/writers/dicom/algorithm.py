"""Who says so: the detector behind a result, in words and numbers that go into the DICOM object."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ... import __version__
from ...errors import OptionError

__all__ = ["NOTICE", "Algorithm"]

NOTICE = "NOT FOR DIAGNOSTIC USE"
"""Stands in every place that a viewer or a worklist may show."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,16}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Algorithm:
    """The identity of a detector, and what its mask promises.

    Args:
        name: of the system or bundle, such as ``"SkipTS"``; 1 to 16 letters, digits, ``_``, ``.`` and ``-``.
        teacher_sha256: of the teacher's weights.
        model_sha256: of the model file; ``""`` if it is not known.
        threshold: map value above which a voxel belongs to the mask; ``None`` for a model that is not calibrated.
        false_alarm_rate: share of normal patients that have any voxel above it, at most.
        smoothing_mm: smoothing through the slices that the map underwent.
        version: of the software.

    Raises:
        OptionError: a name, hash or number that is none.

    Example:
        >>> algorithm = Algorithm("SkipTS", "5c" * 32, threshold=0.75, false_alarm_rate=0.05, version="0.1.0")
        >>> algorithm.parameters["threshold"]
        '0.75'
    """

    name: str
    teacher_sha256: str
    model_sha256: str = ""
    threshold: float | None = None
    false_alarm_rate: float | None = None
    smoothing_mm: float = 0.0
    version: str = __version__

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise OptionError(f"The algorithm's name is {self.name!r}; expected 1 to 16 letters, digits, '_', '.' and '-'.")
        for what, value in (("teacher_sha256", self.teacher_sha256), ("model_sha256", self.model_sha256)):
            if not _SHA256.fullmatch(value) and (value or what == "teacher_sha256"):
                raise OptionError(f"The hash {what} is {value!r}; expected 64 hexadecimal digits in lower case.")
        if (self.threshold is None) != (self.false_alarm_rate is None):
            raise OptionError(
                f"The threshold is {self.threshold} and the false-alarm rate {self.false_alarm_rate}; expected both, or neither of them."
            )

    @property
    def parameters(self) -> dict[str, str]:
        """What is known, by name, as text."""
        known = {"teacher_sha256": self.teacher_sha256}
        if self.model_sha256:
            known["model_sha256"] = self.model_sha256
        if self.threshold is not None and self.false_alarm_rate is not None:
            known |= {
                "threshold": f"{self.threshold:.9g}",
                "false_alarm_rate": f"{self.false_alarm_rate:.9g}",
                "false_alarm_unit": "patient",
            }
        if self.smoothing_mm:
            known["smoothing_mm"] = f"{self.smoothing_mm:.9g}"
        return known
