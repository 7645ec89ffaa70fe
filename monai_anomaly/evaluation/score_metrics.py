"""Metrics of an evaluation, computed once from exact scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from ..metrics import f1_max, sensitivity_specificity
from ..scoring import Calibration
from .scores import PatientScore, SliceScore

__all__ = ["score_metrics"]


def score_metrics(
    rows: Sequence[SliceScore] | Sequence[PatientScore], calibration: Calibration | None, rate: float | None
) -> dict[str, Any]:
    """Compare scores with labels, where both classes are there.

    Args:
        rows: slices or patients; those of unknown label are left aside.
        calibration: scores of held-out normals of the same unit, if there are any.
        rate: false-alarm rate of the threshold; default: 0.05 or the smallest that the calibration can promise.

    Returns:
        Plain data: ``n_normal``, ``n_abnormal``; with both classes ``auroc``, ``ap``, ``f1_max_oracle`` (its threshold is tuned on these very labels)
        and ``baseline_mean_intensity_auroc`` (the better direction of the two); with a calibration ``threshold``, ``false_alarm_rate``,
        ``sensitivity`` and ``specificity`` (``None`` where its class is absent).

    Raises:
        CalibrationError: the rate is smaller than the calibration can promise.
    """
    known = [row for row in rows if row.label >= 0]
    labels = np.array([row.label for row in known], dtype=int)
    scores = np.array([row.score for row in known], dtype=float)
    result: dict[str, Any] = {"n_normal": int((labels == 0).sum()), "n_abnormal": int((labels == 1).sum())}
    if result["n_normal"] and result["n_abnormal"]:
        baseline = float(roc_auc_score(labels, [row.mean_intensity for row in known]))
        result |= {
            "auroc": float(roc_auc_score(labels, scores)),
            "ap": float(average_precision_score(labels, scores)),
            "f1_max_oracle": float(f1_max(labels, scores)[0]),
            "baseline_mean_intensity_auroc": max(baseline, 1 - baseline),
        }
    if calibration is not None:
        used = calibration.default_rate if rate is None else rate
        threshold = calibration.threshold(used)
        result |= {"false_alarm_rate": used, "threshold": threshold}
        if len(known):
            flagged = scores > threshold
            sensitivity, specificity = sensitivity_specificity(labels, flagged)
            result |= {
                "sensitivity": float(sensitivity) if result["n_abnormal"] else None,
                "specificity": float(specificity) if result["n_normal"] else None,
            }
    return result
