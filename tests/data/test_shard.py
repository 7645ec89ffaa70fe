from __future__ import annotations

import pytest

from monai_anomaly.data import shard
from monai_anomaly.errors import DataError

CASES = [{"image": f"{k}.png"} for k in range(11)]


@pytest.mark.parametrize("processes", [1, 2, 3, 11])
def test_every_case_is_on_exactly_one_rank_and_no_rank_has_two_more_than_another(processes):
    parts = [shard(CASES, rank, processes, seed=3) for rank in range(processes)]
    assert sorted(case["image"] for part in parts for case in part) == sorted(case["image"] for case in CASES)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_seed_alone_decides():
    assert shard(CASES, 1, 2, seed=3) == shard(CASES, 1, 2, seed=3) != shard(CASES, 1, 2, seed=4)


def test_fewer_cases_than_processes_are_refused():
    with pytest.raises(DataError, match="2 cases to train on, and 3 processes"):
        shard(CASES[:2], 0, 3, seed=0)
