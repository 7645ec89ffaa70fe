"""The AUPRO of the released codes against their own numbers."""

from __future__ import annotations

import numpy as np
import pytest
from support.golden import load

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.metrics import compute_aupro, compute_aupro_reference


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return load("metrics.npz")


def test_golden_released_form(golden: dict[str, np.ndarray]) -> None:
    maps, masks = golden["amaps"], golden["masks"]
    assert compute_aupro_reference(maps, masks) == pytest.approx(float(golden["ref_pro_mean"]), abs=1e-9)
    each = [compute_aupro_reference(maps[i : i + 1], masks[i : i + 1]) for i in np.flatnonzero(masks.any(axis=(1, 2)))]
    np.testing.assert_allclose(each, golden["ref_pro_per_image"], rtol=0, atol=1e-9)
    side_by_side = (np.concatenate(images, axis=1)[None] for images in (maps, masks))  # no lesion lies at a seam
    assert compute_aupro_reference(*side_by_side) == pytest.approx(float(golden["ref_pro_dataset"]), abs=1e-9)


def test_released_form_ignores_normal_images_and_the_default_does_not(golden: dict[str, np.ndarray]) -> None:
    maps, masks = golden["amaps"], golden["masks"]
    abnormal = masks.any(axis=(1, 2))
    assert compute_aupro_reference(maps[abnormal], masks[abnormal]) == compute_aupro_reference(maps, masks)
    assert compute_aupro(maps[abnormal], masks[abnormal]) != compute_aupro(maps, masks)


def test_what_cannot_be_measured_is_refused() -> None:
    masks = np.zeros((2, 8, 8), dtype=np.uint8)
    maps = np.random.default_rng(0).normal(size=masks.shape)
    with pytest.raises(DataError, match="128 of 128"):
        compute_aupro_reference(maps, masks + 1)
    masks[0, 0, 0] = 1
    with pytest.raises(DataError, match="different scores"):
        compute_aupro_reference(np.zeros(masks.shape), masks)
    with pytest.raises(OptionError, match="n_thresholds is 1"):
        compute_aupro_reference(maps, masks, n_thresholds=1)
