"""How often would the detector be wrong about a normal scan? Split-conformal p-values from held-out normals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import CalibrationError, CheckpointError, DataError, OptionError

__all__ = ["Calibration"]

_MOST_SCORES = 10_000_000


@dataclass(frozen=True, init=False)
class Calibration:
    r"""Scores of normal scans that training never saw, and the promise they allow.

    The p-value of a new score :math:`s` beside the :math:`n` calibration scores is :math:`p = (1 + \#\{s_i \ge s\}) / (n + 1)`; ties count against the
    new scan. If a new *normal* scan and the calibration scans are exchangeable, then :math:`P(p \le \alpha) \le \alpha` for every :math:`\alpha`: who
    flags a scan when :math:`p \le 0.05` is wrong about at most 5 % of normal scans, whatever the detector and the distribution of its scores.

    Scope of the guarantee, in words:

    * *Exchangeable* means the new normal scans are like the calibration scans: same kind of patients, scanner, protocol and preprocessing, and none of
      them was used for training or for choosing settings. A new scanner or another hospital needs its own calibration.
    * It is *marginal*: 5 % is the average over possible calibration sets (and new scans). With the one set at hand the true rate is a random number around it
      (:math:`Beta(k, n + 1 - k)`, :math:`k = \lfloor \alpha (n + 1) \rfloor`): with 19 scans and 5 % it lies between 0.1 % and 18 % in 95 of 100 cases.
    * The unit is what was calibrated. Slices of one patient are *not independent*: with p-values of slices the false-alarm rate per patient is higher,
      and the promise for slices is only approximate. Calibrate one score per patient for a promise about patients.
    * It is about false alarms only. It promises nothing about how many abnormal scans are found, and p is not the probability of disease.

    Args:
        scores: at least one finite score of held-out normals, in any order.

    Attributes:
        scores: the scores as plain floats, ascending.

    Raises:
        CalibrationError: no score, too many, or one that is not finite.

    Source:
        Vovk et al., Algorithmic Learning in a Random World, 2005; Bates et al., Testing for outliers with conformal p-values, Ann. Statist. 51 (2023).

    Example:
        >>> calibration = Calibration([0.3, 0.1, 0.2])
        >>> calibration.p_value([0.05, 0.2, 0.9]).tolist()
        [1.0, 0.75, 0.25]
        >>> calibration.threshold(0.25)
        0.3
    """

    scores: tuple[float, ...]

    def __init__(self, scores: Iterable[float]):
        values = sorted(float(score) for score in scores)
        if not 1 <= len(values) <= _MOST_SCORES:
            raise CalibrationError(
                f"There are {len(values)} calibration scores; expected 1 to {_MOST_SCORES}: hold out normal scans from training."
            )
        if not all(map(math.isfinite, values)):
            raise CalibrationError(
                "Some calibration scores are not finite; expected numbers: leave out the scans that could not be scored."
            )
        object.__setattr__(self, "scores", tuple(values))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def smallest_rate(self) -> float:
        """The smallest false-alarm rate that this many scores can promise, 1 / (n + 1)."""
        return 1 / (len(self) + 1)

    @property
    def default_rate(self) -> float:
        """0.05, or the smallest rate that can be promised where that is larger."""
        return max(0.05, self.smallest_rate)

    def p_value(self, scores: ArrayLike) -> NDArray[np.float64]:
        """P-value of each score, in [1 / (n + 1), 1], same shape.

        Raises:
            DataError: a score is not finite.
        """
        new = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(new).all():
            raise DataError("A score is not finite and has no p-value; expected numbers: leave out the scans that could not be scored.")
        at_least = len(self) - np.searchsorted(self.scores, new, side="left")
        return np.asarray((1 + at_least) / (len(self) + 1), dtype=np.float64)

    def threshold(self, rate: float) -> float:
        """The score strictly above which, and only there, the p-value is at most ``rate``.

        Args:
            rate: false-alarm rate to promise, between 0 and 1.

        Raises:
            OptionError: not a rate.
            CalibrationError: smaller than these scores can promise.
        """
        if not 0 < rate < 1:
            raise OptionError(f"The false-alarm rate is {rate}; expected a number between 0 and 1 such as 0.05.")
        n = len(self)
        # Compared with the very quotients that p_value returns, so that both decide alike in floating point.
        allowed = int(np.searchsorted(np.arange(1, n + 2) / (n + 1), rate, side="right"))
        if allowed == 0:
            needed = math.ceil(1 / Fraction(rate)) - 1
            needed -= 1 / needed <= rate
            raise CalibrationError(
                f"A false-alarm rate of {rate:g} was asked for, but {n} normal calibration scores can promise no less than {self.smallest_rate:.4g}; it takes "
                f"at least {needed}: hold out more normal scans or accept a higher rate."
            )
        return self.scores[n - allowed]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for a checkpoint."""
        return {"scores": list(self.scores)}

    @classmethod
    def among(cls, calibrations: Mapping[str, object] | None, unit: str) -> Calibration | None:
        """That of a unit among those that a detector was saved with, if it was calibrated for it.

        Args:
            calibrations: plain data by unit.
            unit: ``"image"``, ``"patient"`` or ``"pixel"``.

        Raises:
            CheckpointError: what stands there is none.

        Example:
            >>> len(Calibration.among({"image": {"scores": [0.1, 0.2]}}, "image")), Calibration.among(None, "image")
            (2, None)
        """
        return cls.from_dict(calibrations[unit]) if calibrations and unit in calibrations else None

    @classmethod
    def from_dict(cls, data: object) -> Calibration:
        """Rebuild from :meth:`to_dict`.

        Raises:
            CheckpointError: anything but a dictionary with a bounded list of finite numbers under ``scores``.

        Example:
            >>> Calibration.from_dict({"scores": [0.1, 0.2]}).smallest_rate == 1 / 3
            True
        """
        scores = data["scores"] if isinstance(data, Mapping) and set(data) == {"scores"} else None
        if not isinstance(scores, list) or not 1 <= len(scores) <= _MOST_SCORES or not all(type(score) in (int, float) for score in scores):
            raise CheckpointError(
                f"The saved calibration is not a list of 1 to {_MOST_SCORES} numbers under 'scores'; expected what training writes: train or calibrate again."
            )
        try:
            return cls(scores)
        except (CalibrationError, OverflowError) as error:
            raise CheckpointError(
                f"The saved calibration cannot be used ({error}); expected finite numbers: train or calibrate again."
            ) from error
