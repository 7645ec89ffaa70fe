"""After training: what scores and colours mean, measured on normal scans that training never saw."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..data import Case
from ..errors import DataError
from ..evaluation import AnomalyEvaluator, ScoreCollector, SliceScore, pool_patients, pool_series
from ..networks import AnomalyDetector
from ..scoring import Calibration, Pooling

__all__ = ["CalibrateDetector"]

logger = logging.getLogger(__name__)


class CalibrateDetector:
    """Handler of the trainer: when training is over, score the held-out normal patients and keep their scores in the detector.

    The colour scale of heat maps is fixed here too, one per model: from the mean of the maps' medians to twice as far as the level that the hottest
    pixel of 95 % of these normal slices stays below. So the middle of the scale is where normal ends.

    The calibration holds one score per held-out slice (``image``), the patient's pooled score (``patient``), and the highest map value of the patient
    anywhere (``pixel``), which the threshold of findings is taken from: whatever the pooling, a normal patient has any map value above it at most at the
    stated rate. With ``series_per_patient``, the largest number of series that a held-out patient has: where it is 1, the patients' scores are scores of
    series too.

    Args:
        evaluator: an evaluator over held-out normal scans, or over some training scans when nothing is held out.
        cases: the cases that the evaluator scores.
        detector: receives ``calibration``.
        are_held_out: whether the evaluator's scans are held out; if not there is a colour scale but no threshold, and the log says so.
        series_pooling: rule from slice scores to the patient's score.
    """

    def __init__(
        self, evaluator: AnomalyEvaluator, cases: Sequence[Case], detector: AnomalyDetector, are_held_out: bool, series_pooling: str = "max"
    ):
        self.evaluator, self.detector, self.are_held_out = evaluator, detector, bool(are_held_out)
        self.series_pooling = Pooling(series_pooling)
        self.collector = ScoreCollector(cases)
        self.collector.attach(evaluator)
        self._medians: list[Tensor] = []
        self._peaks: list[Tensor] = []
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._add_range)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, before the handler that saves the model."""
        engine.add_event_handler(Events.COMPLETED, self)

    def _add_range(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        scored = output["score"].isfinite()
        flat = output["pred"][scored].flatten(1).float()
        self._medians.append(flat.median(dim=1).values.cpu())
        self._peaks.append(flat.amax(dim=1).cpu())

    def __call__(self, engine: Engine) -> None:
        """Calibrate the detector."""
        self._medians.clear()
        self._peaks.clear()
        self.evaluator.run(engine.state.epoch)  # type: ignore[call-arg]  # the epoch only tells the curves where they are
        slices = self.collector.slices
        if not slices:
            raise DataError(
                "None of the scans kept for calibration could be scored; expected at least one readable, non-empty slice: see the log."
            )
        patients = pool_patients(slices, self.collector.cases, self.series_pooling)
        low = float(torch.cat(self._medians).mean())
        hot = float(torch.cat(self._peaks).quantile(0.95))
        calibration: dict[str, Any] = {"colour_range": [low, low + 2 * max(hot - low, 1e-6)], "series_pooling": self.series_pooling.rule}
        if self.are_held_out:
            of_patients = Calibration([row.score for row in patients])
            calibration["image"] = Calibration([row.score for row in slices]).to_dict()
            calibration["patient"] = of_patients.to_dict()
            calibration["pixel"] = self._highest_values(slices).to_dict()
            series = Counter(row.patient for row in pool_series(slices, self.collector.cases, self.series_pooling))
            calibration["series_per_patient"] = max(series.values())
            logger.info(
                "Calibrated on %d held-out normal patients (%d slices): the smallest false-alarm rate they can promise is %.3f for a patient.",
                len(patients), len(slices), of_patients.smallest_rate,
            )  # fmt: skip
        else:
            logger.warning("No normal patients are held out (calibration_fraction 0): there is no threshold and there are no p-values.")
        self.detector.calibration = calibration

    def _highest_values(self, slices: Sequence[SliceScore]) -> Calibration:
        """The highest map value of each patient, whatever pixel pooling the slices' scores come from."""
        peaks = torch.cat(self._peaks).tolist()
        rows = [row._replace(score=peak) for row, peak in zip(slices, peaks, strict=True)]
        return Calibration([row.score for row in pool_patients(rows, self.collector.cases, Pooling("max"))])
