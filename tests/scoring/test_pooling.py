"""Pooling rules against NumPy's sort and the released scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.scoring import Pooling


@pytest.mark.parametrize(("rule", "key"), [("max", "max"), ("mean", "mean"), ("top_1", "top1"), ("top_10", "top10"), ("top_100", "top100")])
def test_golden(rule: str, key: str) -> None:
    with np.load(Path(__file__).parents[1] / "golden" / "maps.npz", allow_pickle=False) as golden:
        blurred = torch.from_numpy(golden["small_fuse_a_sigma4"])[None]
        assert Pooling(rule)(blurred).item() == pytest.approx(float(golden[f"small_score_{key}_sigma4"]), abs=1e-9)
        assert Pooling("max")(torch.from_numpy(golden["small_fuse_a"])[None]).item() == pytest.approx(
            float(golden["small_score_max_unsmoothed"]), abs=1e-9
        )


@pytest.mark.parametrize(
    ("rule", "k"), [("max", 1), ("mean", 63), ("top_7", 7), ("top_1000", 63), ("top_20%", 12), ("top_0.5%", 1), ("top_100%", 63)]
)
@pytest.mark.parametrize("shape", [(5, 63), (5, 1, 7, 9)])
def test_mean_of_the_highest(rule: str, k: int, shape: tuple[int, ...]) -> None:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.sort(values.numpy().reshape(5, -1), axis=1)[:, ::-1][:, :k].mean(axis=1)
    pooled = Pooling(rule)(values)
    assert pooled.shape == (5,) and pooled.dtype == torch.float64
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-12)
    assert Pooling(rule).count(63) == k


def test_each_sample_stands_alone() -> None:
    values = torch.rand(4, 100, generator=torch.Generator().manual_seed(1))
    for rule in ("max", "mean", "top_3", "top_20%"):
        torch.testing.assert_close(Pooling(rule)(values)[2:3], Pooling(rule)(values[2:3]), rtol=0, atol=0)


def test_percentages_are_exact() -> None:
    # 0.29 * 100 is 28.999999999999996 in floating point.
    assert Pooling("top_29%").count(100) == 29
    assert Pooling("top_2.5%").count(40) == 1


def test_half_precision_is_averaged_in_single() -> None:
    pooled = Pooling("mean")(torch.full((1, 70000), 3.0, dtype=torch.float16))
    assert pooled.dtype == torch.float32 and pooled.item() == 3.0


@pytest.mark.parametrize("rule", ["max", "mean", "top_2", "top_50%"])
def test_nan_is_never_silent(rule: str) -> None:
    assert Pooling(rule)(torch.tensor([[1.0, float("nan"), 2.0, 3.0]])).isnan().all()


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "median",
        "Max",
        "top_",
        "top_0",
        "top_-3",
        "top_2.5",
        "top_1.0",
        "top_0%",
        "top_101%",
        "top_20 %",
        "top_nan%",
        "max\n",
        "top_٣",
        None,
        3,
    ],
)
def test_an_unknown_rule_names_the_known_ones(rule: object) -> None:
    with pytest.raises(OptionError, match=r"'max', 'mean', 'top_K' .* 'top_P%'"):
        Pooling(rule)  # type: ignore[arg-type]


def test_nothing_to_pool() -> None:
    with pytest.raises(DataError, match="nothing to pool"):
        Pooling("max")(torch.zeros(2, 0))
