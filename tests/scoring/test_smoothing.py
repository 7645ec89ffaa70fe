"""Smoothing through the slices against SciPy's Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.scoring import smooth_through_slices


def stack(n: int, *unscored: int) -> torch.Tensor:
    """Maps of ``n`` slices."""
    maps = torch.rand(n, 5, 130, generator=torch.Generator().manual_seed(n))
    maps[list(unscored)] = torch.nan
    return maps


@pytest.mark.parametrize("unscored", [(), (0,), (3, 4, 11), (14, 15, 16, 17)], ids=str)
@pytest.mark.parametrize(("spacing_mm", "smoothing_mm"), [(1.0, 1.0), (2.5, 4.0), (5.0, 2.0), (1.0, 100.0)])
def test_normalised_convolution_by_scipy(spacing_mm: float, smoothing_mm: float, unscored: tuple[int, ...]) -> None:
    maps = stack(18, *unscored)
    known = ~np.isnan(maps.numpy())
    options = {"sigma": smoothing_mm / spacing_mm, "axis": 0, "mode": "constant", "truncate": 12.0}
    with np.errstate(invalid="ignore"):
        sums = gaussian_filter1d(np.where(known, maps.numpy(), 0).astype(float), **options)
        expected = np.where(known, sums / gaussian_filter1d(known.astype(float), **options), np.nan)
    np.testing.assert_allclose(smooth_through_slices(maps.clone(), spacing_mm, smoothing_mm), expected, atol=2e-6)


def test_away_from_the_ends_it_is_scipys_gaussian() -> None:
    maps = stack(60)
    plain = gaussian_filter1d(maps.numpy().astype(float), 2.0, axis=0, truncate=10.0)
    np.testing.assert_allclose(smooth_through_slices(maps.clone(), 1.5, 3.0)[20:40], plain[20:40], atol=2e-6)


def test_no_value_becomes_higher_than_its_column_was() -> None:
    """The threshold of findings relies on it, to the last bit."""
    maps = stack(40, 7)
    maps[:, 0] = maps[:1, 0]
    maps[7] = torch.nan
    highest = maps.nan_to_num(-1).amax(dim=0)
    for smoothing_mm in (0.3, 3.0, 30.0):
        smoothed = smooth_through_slices(maps.clone(), 1.0, smoothing_mm)
        assert (smoothed.nan_to_num(-1).amax(dim=0) <= highest).all() and smoothed[7].isnan().all()


def test_more_pixels_than_are_worked_on_at_once() -> None:
    maps = torch.rand(4, 128, 130)
    part = maps[:, 100:102, 50:60].contiguous()
    np.testing.assert_allclose(smooth_through_slices(maps, 1.0, 2.0)[:, 100:102, 50:60], smooth_through_slices(part, 1.0, 2.0), atol=1e-6)


def test_nothing_to_do() -> None:
    maps = stack(5, 2)
    before = maps.clone()
    assert smooth_through_slices(maps, 1.0, 0.0) is maps
    np.testing.assert_array_equal(maps, before)
    assert smooth_through_slices(torch.full((3, 2, 2), torch.nan), 1.0, 2.0).isnan().all()
    np.testing.assert_allclose(smooth_through_slices(stack(1), 1.0, 2.0), stack(1))
    np.testing.assert_allclose(smooth_through_slices(stack(5), 1.0, 1e-6), stack(5))


def test_wrong_values_are_refused() -> None:
    for smoothing_mm in (-1.0, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="smoothing_mm"):
            smooth_through_slices(stack(3), 1.0, smoothing_mm)
    for spacing_mm in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="positive distance"):
            smooth_through_slices(stack(3), spacing_mm, 1.0)
    with pytest.raises(DataError, match=r"expected \(S, h, w\)"):
        smooth_through_slices(torch.zeros(3, 3), 1.0, 1.0)
