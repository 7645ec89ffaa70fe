"""What an evaluation leaves behind: tables, metrics, and a few lines to read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from scipy.stats import rankdata

from ..data import Case, CaseList, Refusal, log_refused
from ..errors import CalibrationError
from ..files import write_csv, write_json
from ..networks import AnomalyDetector
from ..scoring import Calibration, Pooling
from .pixels import PixelMetrics
from .record import versions
from .results import score_metrics
from .scores import PatientScore, ScoreCollector, SeriesScore, SliceScore, pool_patients, pool_series

__all__ = ["WriteResults"]

logger = logging.getLogger(__name__)


class WriteResults:
    """Handler: when an evaluation is over, write ``images.csv``, ``series.csv``, ``patients.csv``, ``refused.csv``, ``metrics.json``; log the figures.

    Metrics are there where labels are; p-values and decisions where the detector is calibrated; pixel metrics where masks are. A "patient" of an
    image folder is one image unless a datalist says otherwise.

    The score of a series and of a patient come from their slices by the same series pooling. What is calibrated is the patient: a series has a p-value and a
    decision only if each held-out patient had one series, whose score then is the patient's; several series of a patient are several chances of a false
    alarm, so for a promise about patients read ``patients.csv``.

    Args:
        detector: the detector with its calibration.
        cases: the cases that were scored.
        found: everything that was found in the data folder, for the counts.
        output_dir: folder for the files.
        false_alarm_rate: rate of the threshold; default: 0.05 or the smallest that the calibration can promise.
        findings: number of findings of each case by its index, such as ``SaveFindings.counts``, filled before the evaluation is over; for ``series.csv``.

    Raises:
        CalibrationError: at construction, when the held-out normal patients cannot promise the rate, or there were none.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        found: CaseList,
        cases: Sequence[Case],
        output_dir: str | Path,
        false_alarm_rate: float | None = None,
        findings: Mapping[int, int] | None = None,
    ):
        self.detector, self.cases, self.found, self.output_dir, self.rate = detector, cases, found, Path(output_dir), false_alarm_rate
        calibration = detector.calibration or {}
        self.of_images = Calibration.from_dict(calibration["image"]) if "image" in calibration else None
        self.of_patients = Calibration.from_dict(calibration["patient"]) if "patient" in calibration else None
        self.of_series = self.of_patients if calibration.get("series_per_patient") == 1 else None
        self.findings = {} if findings is None else findings
        self.series_pooling = Pooling(calibration.get("series_pooling", "max"))
        if false_alarm_rate is not None:
            if self.of_patients is None:
                raise CalibrationError(
                    f"A false-alarm rate of {false_alarm_rate:g} was asked for, but the model is not calibrated for this rule of maps and pooling: "
                    "train with calibration_fraction above 0 and score with the training's rule, or leave the rate out."
                )
            self.of_patients.threshold(false_alarm_rate)
        self.collector = ScoreCollector(cases)
        self.pixels = PixelMetrics()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        self.collector.attach(engine)
        self.pixels.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write and log the results."""
        slices = self.collector.slices
        patients = pool_patients(slices, self.cases, self.series_pooling)
        series = pool_series(slices, self.cases, self.series_pooling)
        metrics: dict[str, Any] = {"image": score_metrics(slices, self.of_images, self.rate)}
        if len(patients) != len(slices):
            metrics["patient"] = score_metrics(patients, self.of_patients, self.rate)
        pixel = self.pixels.compute()
        if pixel:
            metrics["pixel"] = pixel
        engine.state.metrics.update({f"{unit}_{name}": value for unit, group in metrics.items() for name, value in group.items()})
        write_csv(self.output_dir / "images.csv", [self._image_row(row) for row in slices])
        ranks = rankdata([-row.score for row in series], method="min").tolist()
        write_csv(self.output_dir / "series.csv", [self._series_row(row, int(rank)) for row, rank in zip(series, ranks, strict=True)])
        write_csv(self.output_dir / "patients.csv", [self._patient_row(row) for row in patients])
        refused = [*self.found.refused, *self.collector.refused]
        write_csv(self.output_dir / "refused.csv", [refusal._asdict() for refusal in refused], columns=Refusal._fields)
        log_refused(self.collector.refused)  # those that were refused when found are in the log already
        teacher = self.detector.system.teacher
        write_json(
            self.output_dir / "metrics.json",
            {
                "metrics": metrics,
                "counts": {
                    "files_found": self.found.found,
                    "slices_scored": len(slices),
                    "empty_slices": self.collector.n_empty,
                    "series": len(series),
                    "patients": len(patients),
                },
                "refused": [refusal._asdict() for refusal in refused],
                "rule": {
                    "maps": list(self.detector.anomaly_map.maps),
                    "pooling": self.detector.pooling.rule,
                    "series_pooling": self.series_pooling.rule,
                },
                "teacher": {**teacher.config, "untrained": teacher.source == "random"},
                "provenance": self.detector.provenance,
                "versions": versions(),
            },
        )
        self._log(metrics, len(slices), len(patients))

    def _image_row(self, row: SliceScore) -> dict[str, Any]:
        case = self.cases[row.case]
        return {
            "patient": case.get("patient", ""), "series": case.get("series", ""), "slice": row.slice_index, "group": case.get("group", ""),
            **_decision(row, self.of_images, self.rate),
        }  # fmt: skip

    def _series_row(self, row: SeriesScore, rank: int) -> dict[str, Any]:
        case = self.cases[row.case]
        return {
            "patient": case.get("patient", ""), "series": case.get("series", ""), "group": case.get("group", ""), "slices": row.n_slices,
            "highest_slice": row.worst.slice_index, **_decision(row, self.of_series, self.rate), "rank": rank,
            "findings": self.findings.get(row.case, ""),
        }  # fmt: skip

    def _patient_row(self, row: PatientScore) -> dict[str, Any]:
        worst = self.cases[row.worst.case]
        return {
            "patient": row.patient, "group": worst.get("group", ""), "slices": row.n_slices,
            "highest_series": worst.get("series", ""), "highest_slice": row.worst.slice_index, **_decision(row, self.of_patients, self.rate),
        }  # fmt: skip

    def _log(self, metrics: dict[str, Any], n_slices: int, n_patients: int) -> None:
        logger.info("Scored %d slices of %d patients; %d empty slices and %d unreadable cases left out.",
                    n_slices, n_patients, self.collector.n_empty, len(self.collector.refused))  # fmt: skip
        for unit, group in metrics.items():
            if "auroc" not in group:
                continue
            known = {k: v for k, v in group.items() if k in ("auroc", "ap", "aupro", "f1_max_oracle")}
            logger.info(
                "%s level: %s",
                unit.capitalize(),
                ", ".join(f"{name.upper().replace('_', ' ')} {value:.4f}" for name, value in known.items()),
            )
            if "baseline_mean_intensity_auroc" in group:
                logger.info("  baseline (mean intensity, better direction): AUROC %.4f", group["baseline_mean_intensity_auroc"])
            if group.get("sensitivity") is not None and group.get("specificity") is not None:
                logger.info("  at the calibrated threshold %.4f (false-alarm rate %.3f): sensitivity %.3f, specificity %.3f",
                            group["threshold"], group["false_alarm_rate"], group["sensitivity"], group["specificity"])  # fmt: skip
        logger.info("Scores and metrics: %s", self.output_dir)


def _decision(row: SliceScore | SeriesScore | PatientScore, calibration: Calibration | None, rate: float | None) -> dict[str, Any]:
    """Score, p-value and decision by the calibration of this very unit."""
    cells: dict[str, Any] = {"label": row.label if row.label >= 0 else "", "score": row.score, "p_value": "", "flagged": ""}
    if calibration is not None:
        cells |= {
            "p_value": float(calibration.p_value([row.score])[0]),
            "flagged": int(row.score > calibration.threshold(calibration.default_rate if rate is None else rate)),
        }
    return cells
