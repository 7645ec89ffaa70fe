"""The p-values that the gate compares."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anomaly.errors import ExportError
from monai_anomaly.export.parity import SCORE_ROUNDING, Parity, leave_one_out_p_values
from monai_anomaly.scoring import Calibration


def test_away_from_ties_it_is_the_p_value_beside_the_other_scores():
    rng = np.random.default_rng(0)
    model = rng.permutation(np.arange(40) * 0.01)
    for scores in (model, model + 0.0149, model - 0.0149, rng.random(40)):
        expected = [Calibration(np.delete(model, i)).p_value(score) for i, score in enumerate(scores)]
        ours = leave_one_out_p_values(scores, model, model[::-1])
        np.testing.assert_allclose(ours, expected)


def test_scores_closer_than_the_rounding_are_tied_and_further_ones_are_not():
    model = np.array([0.5, 0.5 + 0.4 * SCORE_ROUNDING, 0.7])
    # The export has the first two the other way round: the same p-value.
    swapped = np.array([0.5 + 0.4 * SCORE_ROUNDING, 0.5, 0.7])
    np.testing.assert_array_equal(leave_one_out_p_values(swapped, model, model), leave_one_out_p_values(model, model, model))
    assert leave_one_out_p_values(model, model, model).tolist() == [1, 1, pytest.approx(1 / 3)]
    apart = np.array([0.5, 0.5 + 4 * SCORE_ROUNDING, 0.7])
    swapped = apart[[1, 0, 2]] + [SCORE_ROUNDING, -SCORE_ROUNDING, 0]
    assert (leave_one_out_p_values(swapped, apart, apart) != leave_one_out_p_values(apart, apart, apart)).tolist() == [True, True, False]


def test_a_calibration_from_another_device_still_leaves_the_own_score_out():
    """A GPU's scores are a little off; the slice's own is the one of the same rank, tied or not."""
    model = np.array([0.3, 0.1, 0.2])
    assert leave_one_out_p_values(model, model, np.sort(model) + 1e-3).tolist() == pytest.approx([1 / 3, 1, 2 / 3])


@pytest.mark.parametrize(
    ("difference", "n_other_p"), [(1.1e-4, 0), (float("nan"), 0), (float("inf"), 0), (1e-7, 1)],
)  # fmt: skip
def test_what_differs_is_refused_with_the_difference(difference, n_other_p):
    with pytest.raises(ExportError, match=f"{difference:.2g}.*{n_other_p} slices have another p-value"):
        Parity(5, difference, 1e-7, n_other_p, (1, 4)).check()
    Parity(5, 1e-4, 1e-7, 0, (1, 4)).check()


def test_a_score_that_is_no_number_has_no_p_value():
    assert np.isnan(leave_one_out_p_values([np.nan, 0.2], [0.1, 0.2], [0.1, 0.2])).tolist() == [True, False]
