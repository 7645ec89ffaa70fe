"""What is said of one study: how unusual it is, where, how often that would be wrong about a normal one, and which model says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import Case
from .errors import CalibrationError
from .writers import SeriesMap

__all__ = ["ModelIdentity", "Verdict"]


@dataclass(frozen=True)
class ModelIdentity:
    """Which model it was; plain data, see ``dataclasses.asdict``.

    Example:
        >>> ModelIdentity("skipts", "SkipTS", "0.1.0", "9f", "resnet18", "5f", False, 20).name
        'skipts'
    """

    name: str
    """Of the bundle."""
    system: str
    version: str
    """Of this package, which ran it."""
    sha256: str
    """Of the model's file."""
    backbone: str
    teacher_sha256: str
    teacher_untrained: bool
    """The teacher's weights are random: a demonstration."""
    epochs: int | None


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a detector says of one study: score, map and findings, with what they mean.

    Rows of tables are those of ``images.csv``, ``patients.csv`` and ``findings.csv``, where an empty text stands for what is not known. Score and p-value are
    the patient's, as if this study were all there is of the patient.
    """

    case: Case
    """Its files and pseudonyms."""
    map: SeriesMap
    """The anomaly map on the study's own grid; NaN in slices that were not scored."""
    slices: tuple[Mapping[str, Any], ...]
    """A row for each scored slice."""
    n_slices: int
    """All of them, those that are empty and were not scored included."""
    patient: Mapping[str, Any] | None
    """The row of the patient; ``None`` if every slice is empty."""
    false_alarm_rate: float | None
    """Of new patients like the held-out normal ones, at most this share is flagged, and at most this share has any finding; ``None`` if not calibrated."""
    threshold: float | None
    """The patient is flagged whose score is above it."""
    map_threshold: float | None
    """A voxel is abnormal whose map value is above it."""
    findings: tuple[Mapping[str, Any], ...]
    """A row for each listed one, highest peak first."""
    n_findings: int | None
    """Of which the highest 1000 are listed; ``None`` if not calibrated."""
    colour_range: tuple[float, float]
    """(low, high) of the model's colour scale, in map units."""
    model: ModelIdentity

    @property
    def score(self) -> float | None:
        """How unusual the study is; ``None`` if every slice is empty."""
        return None if self.patient is None else float(self.patient["score"])

    @property
    def p_value(self) -> float | None:
        """How often a normal patient has such a score or a higher one; ``None`` if there is no score or no calibration."""
        return None if self.patient is None or self.patient["p_value"] == "" else float(self.patient["p_value"])

    @property
    def flagged(self) -> bool | None:
        """Whether the score is above the threshold; ``None`` if there is no score or no calibration."""
        return None if self.patient is None or self.patient["flagged"] == "" else bool(self.patient["flagged"])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(rows, columns, slices)`` of the source: where the map is above its threshold, which the findings are the connected regions of.

        Raises:
            CalibrationError: the model is not calibrated.
        """
        if self.map_threshold is None:
            raise CalibrationError(
                f"The model of {self.model.name} is not calibrated, so there is no threshold for a mask; expected one trained with calibration_fraction "
                "above 0: train again, or ask for the heat map."
            )
        return np.asarray(self.map.source > self.map_threshold)
