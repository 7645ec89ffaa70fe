"""Pixel metrics are those of all pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import average_precision_score, roc_auc_score
from support.golden import load
from support.slices import Slices, score
from support.tiny import tiny_detector

from monai_anomaly.evaluation import PixelMetrics


def test_pixel_metrics_equal_scikit_learn_on_all_pixels():
    detector, pixels = tiny_detector().eval(), PixelMetrics()
    dataset = Slices(4, empty=(0,))
    score(dataset, detector, handlers=[pixels])
    with torch.no_grad():
        maps = detector(dataset.images[1:]).flatten().numpy()
    masks = np.concatenate([dataset[k]["mask"].numpy().ravel() for k in (1, 2, 3)])
    result = pixels.compute()
    assert result["auroc"] == pytest.approx(roc_auc_score(masks, maps), abs=1e-6)
    assert result["ap"] == pytest.approx(average_precision_score(masks, maps), abs=1e-6)


def test_golden_pixel_metrics():
    """On the arrays of ``metrics.npz``; nothing is rounded before it is ranked."""
    golden = load("metrics.npz")
    maps, masks = (torch.from_numpy(golden[name])[:, None] for name in ("amaps", "masks"))
    pixels, engine = PixelMetrics(), Engine(lambda engine, batch: batch)
    pixels.attach(engine)
    engine.run([{"pred": maps, "mask": masks, "score": maps.amax(dim=(1, 2, 3)), "has_mask": torch.ones(len(maps), dtype=torch.bool)}])
    expected = {"auroc": "pixel_auroc", "ap": "pixel_ap", "aupro": "std_aupro_030_conn8"}
    assert pixels.compute() == pytest.approx({name: float(golden[key]) for name, key in expected.items()}, abs=1e-6)
