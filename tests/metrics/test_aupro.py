"""AUPRO against released numbers, a brute-force computation, and the laws that follow from its definition."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.metrics import compute_aupro, compute_aupro_reference


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "golden" / "metrics.npz", allow_pickle=False) as file:
        return dict(file)


def brute_force(maps: np.ndarray, masks: np.ndarray, limit: float, connectivity: int) -> float:
    """SPEC 0.7 word by word: a loop over thresholds, images and components, labelled by scipy."""
    structure = np.ones((3, 3)) if connectivity == 8 else None
    regions = []
    for score, mask in zip(maps, masks):
        components, n = ndimage.label(mask, structure=structure)
        regions += [score[components == k] for k in range(1, n + 1)]
    normal = maps[masks == 0]
    points = [(0.0, 0.0)]
    for t in np.unique(maps)[::-1]:
        points.append((float((normal >= t).mean()), float(np.mean([(region >= t).mean() for region in regions]))))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit:
            area += (limit - x0) * (y0 + y0 + (y1 - y0) * (limit - x0) / (x1 - x0)) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize(
    ("limit", "connectivity", "key"), [(0.3, 8, "030_conn8"), (0.3, 4, "030_conn4"), (0.05, 8, "005_conn8"), (1.0, 8, "100_conn8")]
)
def test_golden_dataset_level(golden: dict[str, np.ndarray], limit: float, connectivity: int, key: str) -> None:
    value = compute_aupro(golden["amaps"], golden["masks"], fpr_limit=limit, connectivity=connectivity)
    assert value == pytest.approx(float(golden[f"std_aupro_{key}"]), abs=1e-6)


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


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [4, 30, None], ids=["many ties", "ties", "no ties"])
def test_brute_force(seed: int, levels: int | None) -> None:
    rng = np.random.default_rng(seed)
    masks = (ndimage.gaussian_filter(rng.normal(size=(4, 14, 11)), (0, 1.2, 1.2)) > 0.25).astype(np.uint8)
    masks[seed % 4] = 0
    maps = rng.normal(size=masks.shape) + 0.8 * masks
    if levels is not None:
        maps = np.round(maps * levels / 8)
    for limit in (0.05, 0.3, 0.777, 1.0):
        for connectivity in (4, 8):
            expected = brute_force(maps, masks, limit, connectivity)
            assert compute_aupro(maps, masks, limit, connectivity) == pytest.approx(expected, abs=1e-12)
            assert compute_aupro(maps.astype(np.float32), masks * 255, limit, connectivity) == pytest.approx(expected, abs=1e-6)


def test_only_the_order_of_scores_matters(golden: dict[str, np.ndarray]) -> None:
    maps, masks = golden["amaps"], golden["masks"]
    assert compute_aupro(np.exp(3 * maps), masks) == pytest.approx(compute_aupro(maps, masks), abs=1e-12)


def test_perfect_chance_and_useless() -> None:
    masks = np.zeros((3, 40, 40), dtype=np.uint8)
    masks[0, 5:15, 5:9] = masks[1, 30:, 30:] = 1
    assert compute_aupro(masks, masks) == pytest.approx(1.0, abs=1e-12)
    assert compute_aupro(-masks.astype(float), masks) == 0.0
    assert compute_aupro(np.zeros(masks.shape), masks) == pytest.approx(0.15)


def test_a_small_lesion_weighs_as_much_as_a_large_one() -> None:
    masks = np.zeros((1, 64, 64), dtype=np.uint8)
    masks[0, 2:4, 2:4] = masks[0, 20:60, 20:60] = 1
    small, large = np.zeros(masks.shape), np.zeros(masks.shape)
    small[0, 2:4, 2:4] = large[0, 20:60, 20:60] = 1
    # One of two components found at FPR 0; the other only with everything else, on the way from (0, 1/2) to (1, 1).
    assert compute_aupro(small, masks) == pytest.approx(compute_aupro(large, masks)) == pytest.approx(0.5 + 0.5 * 0.15)


def test_what_cannot_be_measured_is_refused() -> None:
    masks = np.zeros((2, 8, 8), dtype=np.uint8)
    maps = np.random.default_rng(0).normal(size=masks.shape)
    with pytest.raises(DataError, match="0 of 128 pixels as abnormal"):
        compute_aupro(maps, masks)
    with pytest.raises(DataError, match="128 of 128"):
        compute_aupro_reference(maps, masks + 1)
    masks[0, 0, 0] = 1
    with pytest.raises(DataError, match="same"):
        compute_aupro(maps[:1], masks)
    with pytest.raises(DataError, match="not finite"):
        compute_aupro(np.where(maps > 1, np.nan, maps), masks)
    with pytest.raises(DataError, match="different scores"):
        compute_aupro_reference(np.zeros(masks.shape), masks)
    with pytest.raises(OptionError, match="connectivity"):
        compute_aupro(maps, masks, connectivity=6)
    for limit in (0.0, 1.1, float("nan")):
        with pytest.raises(OptionError, match="fpr_limit"):
            compute_aupro(maps, masks, fpr_limit=limit)
