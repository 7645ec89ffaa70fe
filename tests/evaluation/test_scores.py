"""From slices to series and patients."""

from __future__ import annotations

from monai_anomaly.evaluation import SliceScore, pool_patients, pool_series
from monai_anomaly.scoring import Pooling


def test_patients_pool_their_slices():
    rows = [SliceScore(0, 0, 0, 1.0, 0.0), SliceScore(0, 1, 1, 3.0, 2.0), SliceScore(1, 0, 0, 2.0, 4.0), SliceScore(2, 0, -1, 0.5, 0.0)]
    cases = [{"patient": "a", "label": 1}, {"patient": "a", "label": 1}, {"patient": "b"}]
    a, b = pool_patients(rows, cases, Pooling("mean"))
    assert (a.patient, a.label, a.score, a.mean_intensity, a.n_slices) == ("a", 1, 2.0, 2.0, 3) and a.worst.score == 3.0
    assert (b.patient, b.label, b.score) == ("b", -1, 0.5)


def test_series_pool_their_slices():
    rows = [SliceScore(1, 4, 0, 1.0, 0.0), SliceScore(0, 0, -1, 2.0, 0.0), SliceScore(1, 5, 1, 5.0, 0.0), SliceScore(2, 0, -1, 0.5, 0.0)]
    cases = [{"patient": "a"}, {"patient": "a", "label": 1}, {"image": "2.png"}]
    b, a, c = pool_series(rows, cases, Pooling("mean"))
    assert (b.case, b.patient, b.label, b.score, b.n_slices, b.worst.slice_index) == (1, "a", 1, 3.0, 2, 5)
    assert (a.case, a.patient, a.label, a.score, a.n_slices) == (0, "a", -1, 2.0, 1) and (c.patient, c.score) == ("2.png", 0.5)
