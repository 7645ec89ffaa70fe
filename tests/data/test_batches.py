"""Which slices share a batch: the same ones, whatever is finished and whoever scores them."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from monai_anomaly.data import UnitBatches
from monai_anomaly.data.batches import cut_units
from monai_anomaly.errors import OptionError


def index_of(lengths) -> list[tuple[int, int]]:
    return [(case, k) for case, n in enumerate(lengths) for k in range(n)]


def random_lengths(seed: int) -> list[int]:
    """Runs of pictures between series."""
    rng = np.random.default_rng(seed)
    return [int(n) for n in np.where(rng.random(40) < 0.7, 1, rng.integers(2, 9, 40))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_units_cover_every_slice_once_and_never_split_a_series(seed, batch_size):
    lengths = random_lengths(seed)
    index = index_of(lengths)
    units = cut_units(index, batch_size)
    assert [position for unit in units for position in unit] == list(range(len(index)))
    assert sorted({index[position][0] for unit in units for position in unit}) == list(range(len(lengths)))
    for unit in units:
        cases = [index[position][0] for position in unit]
        if len(set(cases)) > 1:
            assert all(lengths[case] == 1 for case in cases) and len(unit) <= batch_size
        else:
            assert len(unit) == lengths[cases[0]]


def test_pictures_are_grouped_as_far_as_a_batch_goes():
    """Else a folder of pictures would be scored one by one."""
    assert [len(unit) for unit in cut_units(index_of([1] * 10 + [5] + [1] * 3), 4)] == [4, 4, 2, 5, 3]
    assert cut_units([], 4) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_batches_depend_neither_on_what_is_finished_nor_on_the_number_of_processes(seed, processes):
    lengths = random_lengths(seed)
    index = index_of(lengths)
    everything = [tuple(batch) for batch in UnitBatches(index, 4)]
    rng = np.random.default_rng(seed + 100)
    for share in (0.0, 0.5, 0.95):
        finished = {case for case in range(len(lengths)) if rng.random() < share}
        parts = [UnitBatches(index, 4, finished, rank, processes) for rank in range(processes)]
        batches = [tuple(batch) for part in parts for batch in part]
        assert len(batches) == len(set(batches)) == sum(len(part) for part in parts) and set(batches) <= set(everything)
        scored = {index[position][0] for batch in batches for position in batch}
        assert scored >= set(range(len(lengths))) - finished
        for case in scored & finished:  # only for the sake of an unfinished picture in the same batch
            (batch,) = (batch for batch in batches if any(index[position][0] == case for position in batch))
            assert {index[position][0] for position in batch} - finished
        sizes = [len({index[position][0] for batch in part for position in batch}) for part in parts]
        assert not batches or min(sizes) > 0 or len(batches) < processes * 4


def test_with_everything_finished_nothing_is_left():
    assert len(UnitBatches(index_of([1, 4, 1]), 4, range(3))) == 0


def test_batches_go_to_worker_processes():
    batches = UnitBatches(index_of([3, 1]), 2)
    assert [list(batch) for batch in pickle.loads(pickle.dumps(batches))] == [[0, 1], [2], [3]]
    assert [len(batch) for batch in itertools.chain(batches, batches)] == [2, 1, 1] * 2


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "16"])
def test_a_batch_size_that_is_none_is_refused(wrong):
    with pytest.raises(OptionError, match="batch_size is"):
        UnitBatches(index_of([1]), wrong)
