"""How long a comparison still takes."""

from __future__ import annotations

import pytest

from monai_anomaly.compare.progress import time_left


def test_time_left_is_that_of_runs_alike():
    train, other, again = ("a", "skipts", False), ("a", "rd4ad", False), ("a", "skipts", True)
    taken = [(train, 10.0), (train, 20.0), (other, 100.0), (again, 2.0)]
    assert time_left(taken, [train, other, again]) == pytest.approx(15 + 100 + 2)
    assert time_left(taken, [("b", "rd4ad", False), ("b", "drd", False)]) == pytest.approx(100 + (10 + 20 + 100) / 3)
    assert time_left([], [train]) is None and time_left([], []) == 0 and time_left(taken, []) == 0
