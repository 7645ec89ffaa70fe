"""Calibration: the promise measured on simulated hospitals, and the arithmetic around it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from monai_anomaly.errors import CalibrationError, CheckpointError, DataError, OptionError
from monai_anomaly.scoring import Calibration


@pytest.mark.parametrize("decimals", [None, 1, 0], ids=["continuous", "ties", "many ties"])
@pytest.mark.parametrize("n", [1, 19, 50])
def test_false_alarm_rate_keeps_its_promise(n: int, decimals: int | None) -> None:
    """Many draws of a calibration set with new normals from the same distribution: P(p <= rate) <= rate for every rate."""
    rng = np.random.default_rng(n)
    draws, new_per_draw = 1500, 20
    scores = rng.lognormal(size=(draws, n + new_per_draw))
    if decimals is not None:
        scores = np.round(scores, decimals)
    p = np.stack([Calibration(row[:n]).p_value(row[n:]) for row in scores])
    for rate in (0.02, 0.05, 0.1, 0.25, 0.5, 0.9):
        alarms = (p <= rate).mean(axis=1)
        error = alarms.std() / math.sqrt(draws)
        assert alarms.mean() <= rate + 4 * error
        if decimals is None:
            # Without ties the promise is exact: floor(rate (n + 1)) / (n + 1), so nothing is given away either.
            assert alarms.mean() == pytest.approx(math.floor(rate * (n + 1) + 1e-9) / (n + 1), abs=4 * error + 1e-12)


def test_threshold_keeps_its_promise_for_new_normals() -> None:
    rng = np.random.default_rng(5)
    scores = rng.normal(size=(3000, 39 + 10))
    alarms = np.array([(row[39:] > Calibration(row[:39]).threshold(0.05)).mean() for row in scores])
    assert alarms.mean() == pytest.approx(0.05, abs=4 * alarms.std() / math.sqrt(len(alarms)))


def test_p_value_by_its_formula() -> None:
    rng = np.random.default_rng(0)
    known, new = np.round(rng.normal(size=40), 1), np.round(rng.normal(size=(6, 7)), 1)
    p = Calibration(known).p_value(new)
    assert p.shape == new.shape and p.dtype == np.float64
    for value, score in zip(p.ravel(), new.ravel()):
        assert value == (1 + sum(s >= score for s in known)) / 41


def test_ties_count_against_the_new_scan() -> None:
    assert Calibration([1.0, 1.0, 1.0]).p_value(1.0) == 1.0
    assert Calibration([1.0, 1.0, 1.0]).p_value(np.nextafter(1.0, 2.0)) == 0.25


@pytest.mark.parametrize("n", [1, 2, 9, 19, 28, 48, 97, 100])
def test_threshold_and_p_value_decide_alike(n: int) -> None:
    known = np.round(np.random.default_rng(n).normal(size=n), 1)
    calibration = Calibration(known)
    scores = np.concatenate([known, np.nextafter(known, 9), np.nextafter(known, -9), np.linspace(-4, 4, 50)])
    rates = [k / (n + 1) for k in range(1, n + 1)] + [0.999]
    for rate in rates:
        np.testing.assert_array_equal(scores > calibration.threshold(rate), calibration.p_value(scores) <= rate)


@pytest.mark.parametrize("n", range(1, 130))
def test_the_smallest_rate_is_allowed_and_anything_below_refused(n: int) -> None:
    calibration = Calibration(np.arange(n))
    assert calibration.smallest_rate == 1 / (n + 1)
    assert calibration.threshold(calibration.smallest_rate) == n - 1
    assert calibration.default_rate == max(0.05, 1 / (n + 1))
    calibration.threshold(calibration.default_rate)
    with pytest.raises(CalibrationError, match=f"{n} normal calibration scores .* at least {n + 1}:"):
        calibration.threshold(1 / (n + 2))


def test_refusal_says_how_many_normals_it_takes() -> None:
    with pytest.raises(
        CalibrationError, match=r"rate of 0\.01 was asked for, but 10 normal .* no less than 0\.09091; it takes at least 99"
    ):
        Calibration(range(10)).threshold(0.01)
    for rate in (0.013, 0.0007, 1e-9):
        with pytest.raises(CalibrationError) as caught:
            Calibration([0.0]).threshold(rate)
        needed = int(str(caught.value).split("at least ")[1].split(":")[0])
        assert 1 / (needed + 1) <= rate < 1 / needed


@pytest.mark.parametrize("rate", [0, 1, -0.1, 5, float("nan")])
def test_what_is_no_rate(rate: float) -> None:
    with pytest.raises(OptionError, match="between 0 and 1"):
        Calibration([0.0]).threshold(rate)


def test_frozen_plain_and_sorted() -> None:
    calibration = Calibration(np.array([3, 1, 2], dtype=np.float32))
    assert calibration.scores == (1.0, 2.0, 3.0) and all(type(score) is float for score in calibration.scores)
    with pytest.raises(AttributeError):
        calibration.scores = ()  # type: ignore[misc]


def test_through_json_and_back() -> None:
    calibration = Calibration(np.random.default_rng(2).normal(size=25).astype(np.float32))
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict(), allow_nan=False))) == calibration


@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, {"scores": []}, {"scores": "12"}, {"scores": [1.0, "2"]}, {"scores": [True]}, {"scores": [float("nan")]},
        {"scores": [float("inf")]}, {"scores": [None]}, {"scores": [1.0], "more": 1}, {"scores": [[1.0]]}, {"scores": [10**400]}, {"scores": {"0": 1.0}},
    ],
)  # fmt: skip
def test_a_damaged_calibration_is_refused(data: object) -> None:
    with pytest.raises(CheckpointError, match="calibrat"):
        Calibration.from_dict(data)


def test_scores_that_are_not_finite() -> None:
    with pytest.raises(CalibrationError, match="0 calibration scores"):
        Calibration([])
    with pytest.raises(CalibrationError, match="not finite"):
        Calibration([1.0, float("nan")])
    with pytest.raises(DataError, match="no p-value"):
        Calibration([1.0]).p_value([0.0, float("nan")])
