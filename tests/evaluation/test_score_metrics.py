"""Metrics of few scores, counted by hand."""

from __future__ import annotations

import pytest
from support.golden import load

from monai_anomaly.evaluation import SliceScore, score_metrics
from monai_anomaly.scoring import Calibration


def test_score_metrics_against_hand_counts():
    rows = [
        SliceScore(k, 0, label, s, m) for k, (label, s, m) in enumerate([(0, 0.1, 5), (0, 0.4, 4), (1, 0.35, 3), (1, 0.8, 2), (-1, 9.0, 1)])
    ]
    result = score_metrics(rows, Calibration([0.05, 0.2, 0.3]), rate=0.5)
    assert result["auroc"] == 0.75 and result["n_normal"] == 2 and result["n_abnormal"] == 2
    assert result["baseline_mean_intensity_auroc"] == 1.0
    # Rate 0.5 of 3 scores: flagged above the second highest, 0.2: both abnormal and one of two normal cases.
    assert (result["threshold"], result["sensitivity"], result["specificity"]) == (0.2, 1.0, 0.5)
    assert "auroc" not in score_metrics(rows[:2], None, None)
    # A score that equals the threshold has a p-value above the rate: it is not flagged.
    assert score_metrics([SliceScore(0, 0, 1, 0.2, 0.0)], Calibration([0.05, 0.2, 0.3]), rate=0.5)["sensitivity"] == 0.0


def test_golden_image_metrics():
    """On the arrays of ``metrics.npz``; nothing is rounded before it is ranked."""
    golden = load("metrics.npz")
    for labels, scores, auroc, ap in (
        ("round_labels", "round_scores", "round_auroc_exact", "round_ap_exact"),
        ("image_labels", "image_scores_max", "image_auroc", "image_ap"),
    ):
        rows = [SliceScore(k, 0, int(label), float(score), 0.0) for k, (label, score) in enumerate(zip(golden[labels], golden[scores]))]
        result = score_metrics(rows, None, None)
        assert (result["auroc"], result["ap"]) == pytest.approx((float(golden[auroc]), float(golden[ap])), abs=1e-9)
