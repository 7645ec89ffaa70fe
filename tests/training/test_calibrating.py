"""What is calibrated on held-out normal patients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.slices import Series, calibrate, maps_of
from support.tiny import tiny_detector

from monai_anomaly.scoring import AnomalyMap, Pooling
from monai_anomaly.training import load_detector, save_detector


@pytest.mark.parametrize("are_held_out", [True, False])
@pytest.mark.parametrize("pooling", ["max", "mean", "top_10"])
def test_each_unit_has_its_own_scores_and_the_model_one_colour_scale(are_held_out, pooling):
    detector, dataset = tiny_detector().eval(), Series(["a", "a", "b", "c"], empty=((3, 0),))
    detector.pooling = Pooling(pooling)
    calibration = calibrate(detector, dataset, are_held_out, "mean")
    maps = maps_of(detector, dataset)
    scored = np.delete(maps.reshape(8, -1), 6, axis=0)
    low, hot = np.quantile(scored, 0.5, axis=1, method="lower").mean(), np.quantile(scored.max(axis=1), 0.95)
    np.testing.assert_allclose(detector.colour_range, (low, low + 2 * (hot - low)), rtol=1e-5)
    of_normals = {"image", "patient", "pixel", "series_per_patient"} if are_held_out else set()
    assert set(calibration) == {"colour_range", "series_pooling"} | of_normals
    if are_held_out:
        scores = Pooling(pooling)(torch.from_numpy(scored)).numpy()
        np.testing.assert_allclose(calibration["image"]["scores"], np.sort(scores), rtol=1e-5)
        np.testing.assert_allclose(calibration["patient"]["scores"], np.sort([scores[:4].mean(), scores[4:6].mean(), scores[6]]), rtol=1e-5)
        highest = [scored[:4].max(), scored[4:6].max(), scored[6].max()]
        np.testing.assert_allclose(calibration["pixel"]["scores"], np.sort(highest), rtol=1e-5)
        assert calibration["series_per_patient"] == 2


def test_with_maxima_throughout_the_patients_scores_are_their_highest_values():
    calibration = calibrate(tiny_detector().eval(), Series(["a", "a", "b", "c"]))
    assert calibration["pixel"] == calibration["patient"]


def test_series_without_a_scored_slice_do_not_count():
    dataset = Series(["a", "a", "b"], empty=((1, 0), (1, 1)))
    assert calibrate(tiny_detector().eval(), dataset)["series_per_patient"] == 1


def test_another_pooling_keeps_the_threshold_of_findings_and_other_maps_do_not(tmp_path, caplog):
    detector = tiny_detector().eval()
    calibration = calibrate(detector, Series(["a", "b"]))
    path = save_detector(detector, tmp_path / "model.pt")
    assert load_detector(path).calibration == calibration
    kept = {key: calibration[key] for key in ("series_pooling", "colour_range", "pixel")}
    assert load_detector(path, pooling="mean").calibration == kept and "that of findings does not depend on the pooling" in caplog.text
    caplog.clear()
    for pooling in (None, "mean"):
        assert load_detector(path, maps=[1, 2], pooling=pooling).calibration == {"series_pooling": "max"}
    assert caplog.text.count("there are no findings") == 2
    # The threshold is measured on maps: with another pooling of the very same scans it is the same.
    detector.pooling = Pooling("mean")
    assert calibrate(detector, Series(["a", "b"]))["pixel"] == calibration["pixel"]
    detector.anomaly_map = AnomalyMap([1])
    assert calibrate(detector, Series(["a", "b"]))["pixel"] != calibration["pixel"]
