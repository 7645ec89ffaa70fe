"""The colour scale means the same in every picture."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.writers import ColourScale, binary_mask, rgb_image

IMAGE = np.random.default_rng(0).random((1, 12, 10), dtype=np.float32)


def test_normal_tissue_shows_through_and_the_top_takes_the_colour() -> None:
    scale = ColourScale(1.0, 3.0)
    np.testing.assert_array_equal(scale.overlay(IMAGE, np.full((12, 10), 1.0)), rgb_image(IMAGE))
    hottest = 0.8 * np.array(matplotlib.colormaps["inferno"](1.0)[:3]) * 255 + 0.2 * rgb_image(IMAGE)
    np.testing.assert_allclose(scale.overlay(IMAGE, np.full((12, 10), 3.0)).astype(float), hottest, atol=1)


def test_overlay_by_its_formula() -> None:
    values = np.linspace(-0.5, 2.5, 120).reshape(12, 10)
    # matplotlib has 256 colours; a value at a step takes one or the other.
    t = np.clip(values / 2, 0, 1)
    alpha = (0.8 * t * t * (3 - 2 * t))[..., None]
    expected = (1 - alpha) * 255 * IMAGE.transpose(1, 2, 0) + alpha * 255 * matplotlib.colormaps["inferno"](t)[..., :3]
    np.testing.assert_allclose(ColourScale(0.0, 2.0).overlay(IMAGE, values).astype(float), expected, atol=4)


def test_a_pixel_depends_on_its_own_value_only() -> None:
    """Never a scale per picture: the same value looks the same beside a hotter one."""
    values = np.random.default_rng(1).random((12, 10))
    other = values.copy()
    other[0, 0] = 50.0
    scale = ColourScale(0.0, 1.0)
    np.testing.assert_array_equal(scale.overlay(IMAGE, values)[1:], scale.overlay(IMAGE, other)[1:])


def test_tensors_channels_and_values_that_are_not_finite() -> None:
    values = torch.rand(1, 12, 10)
    scale = ColourScale(0.0, 1.0)
    np.testing.assert_array_equal(
        scale.overlay(torch.from_numpy(IMAGE).requires_grad_(), values), scale.overlay(IMAGE.repeat(3, axis=0), values[0].numpy())
    )
    np.testing.assert_array_equal(scale.overlay(IMAGE, np.full((12, 10), np.nan)), rgb_image(IMAGE))
    hot = scale.overlay(IMAGE, np.full((12, 10), 1.0))
    np.testing.assert_array_equal(scale.overlay(IMAGE, np.full((12, 10), 1e30)), hot)


def test_the_bar_runs_from_low_to_high() -> None:
    bar = ColourScale(0.0, 1.0).bar(100, 4)
    assert bar.shape == (100, 4, 3)
    brightness = bar.astype(int).sum(axis=2)[:, 0]
    assert brightness[0] > 2 * brightness[-1]


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_none(low: float, high: float) -> None:
    with pytest.raises(OptionError, match="lower one first"):
        ColourScale(low, high)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="anomaly map has shape"):
        ColourScale(0.0, 1.0).overlay(IMAGE, np.zeros((6, 5)))
    with pytest.raises(DataError, match="mask has shape"):
        binary_mask(np.zeros((6, 5)), (12, 10))
    for image in (np.zeros((12, 10)), np.zeros((2, 12, 10)), np.zeros((1, 0, 4))):
        with pytest.raises(DataError, match=r"\(1, H, W\) or \(3, H, W\)"):
            rgb_image(image)
    with pytest.raises(DataError, match="not finite"):
        rgb_image(np.full((1, 2, 2), np.nan))
