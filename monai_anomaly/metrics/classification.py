"""Two decisions measured against labels: the best one could do with them (oracle F1), and what a threshold fixed beforehand achieves."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve

from ..errors import DataError

__all__ = ["f1_max", "sensitivity_specificity"]


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Highest F1 over all thresholds, and the threshold that gives it. An oracle: it is tuned on the very labels it is measured with.

    Args:
        labels: ``(N,)``, 0 normal, 1 abnormal; at least one abnormal.
        scores: ``(N,)``, higher is more anomalous.

    Returns:
        F1, and the lowest threshold that reaches it with ``score >= threshold``.

    Raises:
        DataError: lengths differ, other labels, no abnormal one, or a score that is not finite.

    Example:
        >>> f1_max([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9])
        (0.8, 0.5)
    """
    labels, scores = _checked(labels, np.asarray(scores, dtype=float), "scores")
    if not labels.any():
        raise DataError(f"None of the {labels.size} labels is 1; the best F1 needs an abnormal case: evaluate a set that has some.")
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)[:-1]
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def sensitivity_specificity(labels: ArrayLike, flagged: ArrayLike) -> tuple[float, float]:
    """Share of the abnormal cases that are flagged, and share of the normal ones that are not.

    Args:
        labels: ``(N,)``, 0 normal, 1 abnormal.
        flagged: ``(N,)``, true where the case was called abnormal.

    Returns:
        Sensitivity and specificity; NaN for a class that has no case, since there is nothing to divide by.

    Raises:
        DataError: lengths differ, nothing given, or labels or flags other than 0 and 1.

    Example:
        >>> sensitivity_specificity([0, 0, 1, 1], [False, True, True, True])
        (1.0, 0.5)
    """
    labels, flagged = _checked(labels, np.asarray(flagged), "flags")
    if not np.isin(flagged, (0, 1)).all():
        raise DataError("Some flags are neither 0 nor 1; expected decisions: compare scores with a threshold first.")
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(labels, flagged.astype(int), labels=[0, 1])
    abnormal, normal = true_positive + false_negative, true_negative + false_positive
    return float(true_positive / abnormal) if abnormal else float("nan"), float(true_negative / normal) if normal else float("nan")


def _checked(labels: ArrayLike, values: NDArray[np.generic], what: str) -> tuple[NDArray[np.int64], NDArray[np.generic]]:
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.shape != values.shape or not labels.size:
        raise DataError(
            f"The labels have shape {labels.shape} and the {what} {values.shape}; expected the same (N,) for both, N at least 1."
        )
    if not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"Some labels are neither 0 nor 1 ({np.unique(labels)[:5].tolist()} ...): leave out the cases whose label is unknown."
        )
    if not np.isfinite(values).all():
        raise DataError(f"Some {what} are not finite: leave out the cases that could not be scored.")
    return labels.astype(np.int64), values
