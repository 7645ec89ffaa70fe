"""Decisions against the released numbers and against counting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from monai_anomaly.errors import DataError
from monai_anomaly.metrics import f1_max, sensitivity_specificity


def test_golden_best_f1() -> None:
    with np.load(Path(__file__).parents[1] / "golden" / "metrics.npz", allow_pickle=False) as golden:
        labels, scores = golden["round_labels"], golden["round_scores"]
        f1, threshold = f1_max(labels, scores)
        assert f1 == pytest.approx(float(golden["bestf1_f1"]), abs=1e-9)
        assert threshold == pytest.approx(float(golden["bestf1_threshold"]), abs=1e-9)
        assert sensitivity_specificity(labels, scores >= threshold)[1] == pytest.approx(float(golden["bestf1_specificity"]), abs=1e-9)
        assert np.mean((scores >= threshold) == labels) == pytest.approx(float(golden["bestf1_acc"]), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_best_f1_by_trying_every_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    labels[0] = 1
    scores = np.round(rng.normal(size=60) + labels, 1)
    tried = {t: f1_score(labels, scores >= t) for t in np.unique(scores)}
    f1, threshold = f1_max(labels, scores)
    assert f1 == pytest.approx(max(tried.values()))
    assert tried[threshold] == pytest.approx(f1)


def test_sensitivity_and_specificity_by_counting() -> None:
    rng = np.random.default_rng(3)
    labels, flagged = rng.integers(0, 2, 50), rng.integers(0, 2, 50).astype(bool)
    assert sensitivity_specificity(labels, flagged) == (flagged[labels == 1].mean(), (~flagged[labels == 0]).mean())


def test_an_absent_class_has_no_rate() -> None:
    sensitivity, specificity = sensitivity_specificity([0, 0, 0, 0], [0, 0, 0, 1])
    assert np.isnan(sensitivity) and specificity == 0.75
    sensitivity, specificity = sensitivity_specificity([1], [True])
    assert sensitivity == 1.0 and np.isnan(specificity)


@pytest.mark.parametrize(
    ("labels", "scores", "sentence"),
    [
        ([0, 0], [0.1, 0.2], "None of the 2 labels"),
        ([0, 1, 1], [0.1, 0.2], "same"),
        ([0, 1, -1], [0.1, 0.2, 0.3], "neither 0 nor 1"),
        ([0, 1], [0.1, float("nan")], "not finite"),
        ([], [], "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(labels: list[int], scores: list[float], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        f1_max(labels, scores)


def test_scores_are_not_decisions() -> None:
    with pytest.raises(DataError, match="compare scores with a threshold"):
        sensitivity_specificity([0, 1], [0.2, 0.9])
