"""From scored slices to the tables and metrics of a run, whether they were kept in memory or on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import rankdata

from ..data import Case, CaseList, Refusal, log_refused
from ..errors import CalibrationError
from ..files import write_csv, write_json
from ..networks import AnomalyDetector
from ..scoring import Calibration, Pooling
from ..versions import versions
from .score_metrics import score_metrics
from .scores import PatientScore, SeriesScore, SliceScore, pool_patients, pool_series

__all__ = ["ResultTables", "Scored", "flat_metrics"]

logger = logging.getLogger(__name__)


class Scored(NamedTuple):
    """What is known of the cases so far.

    Example:
        >>> Scored([SliceScore(0, 0, 0, 0.25, 0.0)], n_empty=0, refused=[]).n_left
        0
    """

    slices: Sequence[SliceScore]
    """In the order of the cases."""
    n_empty: int
    """Slices left out because they are empty."""
    refused: Sequence[Refusal]
    """Cases that could not be read."""
    findings: Mapping[int, int] = {}
    """Number of findings of each case, by its index."""
    pixel: Mapping[str, float] = {}
    """Pixel metrics."""
    n_left: int = 0
    """Cases that are still to be scored."""


class ResultTables:
    """Write ``images.csv``, ``series.csv``, ``patients.csv``, ``refused.csv`` and, last of all, ``metrics.json``; log the figures.

    Metrics are there where labels are; p-values and decisions where the detector is calibrated. A "patient" of an image folder is one image unless a datalist
    says otherwise.

    The score of a series and of a patient come from their slices by the same series pooling. What is calibrated is the patient: a series has a p-value and a
    decision only if each held-out patient had one series, whose score then is the patient's; several series of a patient are several chances of a false
    alarm, so for a promise about patients read ``patients.csv``.

    Args:
        detector: the detector with its calibration.
        found: everything that was found in the data folder, for the counts.
        cases: the cases that are scored.
        output_dir: folder for the files.
        false_alarm_rate: rate of the threshold; default: 0.05 or the smallest that the calibration can promise.

    Raises:
        CalibrationError: the held-out normal patients cannot promise the rate, or there were none.

    Example:
        >>> ResultTables(detector, cases, cases.select(split="test"), "results").write(scored)  # doctest: +SKIP
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        found: CaseList,
        cases: Sequence[Case],
        output_dir: str | Path,
        false_alarm_rate: float | None = None,
    ):
        self.detector, self.found, self.cases, self.output_dir, self.rate = detector, found, cases, Path(output_dir), false_alarm_rate
        calibration = detector.calibration or {}
        self.of_images = Calibration.among(calibration, "image")
        self.of_patients = Calibration.among(calibration, "patient")
        self.of_series = self.of_patients if calibration.get("series_per_patient") == 1 else None
        self.series_pooling = Pooling(calibration.get("series_pooling", "max"))
        if false_alarm_rate is not None:
            if self.of_patients is None:
                raise CalibrationError(
                    f"A false-alarm rate of {false_alarm_rate:g} was asked for, but the model is not calibrated for this rule of maps and pooling: "
                    "train with calibration_fraction above 0 and score with the training's rule, or leave the rate out."
                )
            self.of_patients.threshold(false_alarm_rate)

    def rows(self, scored: Scored) -> dict[str, list[dict[str, Any]]]:
        """The rows of ``images.csv``, ``series.csv`` and ``patients.csv``, by these names without ``.csv``.

        Args:
            scored: what is known so far.
        """
        return self._rows(scored, self._patients(scored))

    def write(self, scored: Scored) -> dict[str, Any]:
        """Write all of them; ``metrics.json`` is the last, and says whether cases are left to be scored.

        Args:
            scored: what is known so far.

        Returns:
            The content of ``metrics.json``.
        """
        slices, patients = scored.slices, self._patients(scored)
        metrics: dict[str, Any] = {"image": score_metrics(slices, self.of_images, self.rate)}
        if len(patients) != len(slices):
            metrics["patient"] = score_metrics(patients, self.of_patients, self.rate)
        if scored.pixel:
            metrics["pixel"] = dict(scored.pixel)
        tables = self._rows(scored, patients)
        for name, rows in tables.items():
            write_csv(self.output_dir / f"{name}.csv", rows)
        n_series = len(tables["series"])
        refused = [refusal._asdict() for refusal in (*self.found.refused, *scored.refused)]
        write_csv(self.output_dir / "refused.csv", refused, columns=Refusal._fields)
        teacher = self.detector.system.teacher
        results = {
            "complete": scored.n_left == 0,
            "metrics": metrics,
            "counts": {
                "files_found": self.found.found,
                "slices_scored": len(slices),
                "empty_slices": scored.n_empty,
                "patients": len(patients),
                "series_found": len(self.cases),
                "series": n_series,
                "series_empty": len(self.cases) - n_series - len(scored.refused) - scored.n_left,
                "series_refused": len(scored.refused),
                "series_left": scored.n_left,
            },
            "refused": refused,
            "rule": {
                "maps": list(self.detector.anomaly_map.maps),
                "pooling": self.detector.pooling.rule,
                "series_pooling": self.series_pooling.rule,
            },
            "teacher": {**teacher.config, "untrained": teacher.untrained},
            "provenance": self.detector.provenance,
            "versions": versions(),
        }
        write_json(self.output_dir / "metrics.json", results)
        return results

    def log(self, results: dict[str, Any], refused: Sequence[Refusal]) -> None:
        """Log the figures of a finished run.

        Args:
            results: from :meth:`write`.
            refused: cases that could not be read; those that were refused when they were found are in the log already.
        """
        log_refused(refused)
        counts = results["counts"]
        logger.info("Scored %d slices of %d patients; %d empty slices and %d unreadable cases left out.",
                    counts["slices_scored"], counts["patients"], counts["empty_slices"], counts["series_refused"])  # fmt: skip
        for unit, group in results["metrics"].items():
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

    def _patients(self, scored: Scored) -> list[PatientScore]:
        return pool_patients(scored.slices, self.cases, self.series_pooling)

    def _rows(self, scored: Scored, patients: Sequence[PatientScore]) -> dict[str, list[dict[str, Any]]]:
        series = pool_series(scored.slices, self.cases, self.series_pooling)
        ranks = rankdata([-row.score for row in series], method="min").tolist()
        return {
            "images": [self._image_row(row) for row in scored.slices],
            "series": [self._series_row(row, int(rank), scored.findings) for row, rank in zip(series, ranks, strict=True)],
            "patients": [self._patient_row(row) for row in patients],
        }

    def _image_row(self, row: SliceScore) -> dict[str, Any]:
        case = self.cases[row.case]
        return {
            "patient": case.get("patient", ""), "series": case.get("series", ""), "slice": row.slice_index, "group": case.get("group", ""),
            **_decision(row, self.of_images, self.rate),
        }  # fmt: skip

    def _series_row(self, row: SeriesScore, rank: int, findings: Mapping[int, int]) -> dict[str, Any]:
        case = self.cases[row.case]
        return {
            "patient": case.get("patient", ""), "series": case.get("series", ""), "group": case.get("group", ""), "slices": row.n_slices,
            "highest_slice": row.worst.slice_index, **_decision(row, self.of_series, self.rate), "rank": rank,
            "findings": findings.get(row.case, ""),
        }  # fmt: skip

    def _patient_row(self, row: PatientScore) -> dict[str, Any]:
        worst = self.cases[row.worst.case]
        return {
            "patient": row.patient, "group": worst.get("group", ""), "slices": row.n_slices,
            "highest_series": worst.get("series", ""), "highest_slice": row.worst.slice_index, **_decision(row, self.of_patients, self.rate),
        }  # fmt: skip


def flat_metrics(results: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of :meth:`ResultTables.write` as an engine keeps them.

    Example:
        >>> flat_metrics({"metrics": {"image": {"auroc": 0.5}}})
        {'image_auroc': 0.5}
    """
    return {f"{unit}_{name}": value for unit, group in results["metrics"].items() for name, value in group.items()}


def _decision(row: SliceScore | SeriesScore | PatientScore, calibration: Calibration | None, rate: float | None) -> dict[str, Any]:
    """Score, p-value and decision by the calibration of this very unit."""
    cells: dict[str, Any] = {"label": row.label if row.label >= 0 else "", "score": row.score, "p_value": "", "flagged": ""}
    if calibration is not None:
        cells |= {
            "p_value": float(calibration.p_value([row.score])[0]),
            "flagged": int(row.score > calibration.threshold(calibration.default_rate if rate is None else rate)),
        }
    return cells
