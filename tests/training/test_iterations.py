"""Iterations as whole epochs, by headers alone."""

from __future__ import annotations

import math

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose
from support.tiny import write_image_folder

from monai_anomaly.data import find_cases, shard
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.training import epochs_of, iterations
from monai_anomaly.transforms import OrientSlicesd


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Volumes of different numbers of slices, 3 to 9 of them: 42 together; their voxels cannot be read."""
    folder = tmp_path_factory.mktemp("volumes")
    cases = []
    for n in range(3, 10):
        path = folder / f"{n}.nii"
        nib.save(nib.Nifti1Image(np.zeros((16, 12, n), np.int16), np.eye(4)), path)
        path.write_bytes(path.read_bytes()[:352])  # the header
        cases.append({"image": str(path), "series": str(n)})
    return cases


@pytest.mark.parametrize(
    ("wanted", "batch_size", "epochs"), [(1, 16, 1), (3, 16, 1), (4, 16, 2), (40_000, 4, 3637), (42, 1, 1), (43, 1, 2)]
)
def test_as_many_whole_epochs_as_are_at_least_the_iterations(volumes, wanted, batch_size, epochs):
    batches = math.ceil(42 / batch_size)
    assert epochs_of(wanted, volumes, Compose([]), batch_size, seed=0) == epochs == math.ceil(wanted / batches)


def test_slices_along_another_axis_are_counted_along_it(volumes):
    assert epochs_of(7 * 16, volumes, Compose([OrientSlicesd("image", plane="sagittal")]), 16, seed=0) == 16


def test_pictures_count_one_each(tmp_path):
    cases = find_cases(write_image_folder(tmp_path / "set", n_train=12)).select(split="train")
    assert epochs_of(7, cases, Compose([]), 4, seed=0) == 3


def test_of_several_processes_the_one_with_most_slices_decides(volumes, monkeypatch):
    monkeypatch.setattr(iterations.idist, "get_world_size", lambda: 3)
    monkeypatch.setattr(iterations, "from_rank_0", lambda make: make())
    assert iterations.idist is idist
    parts = [sum(int(case["series"]) for case in shard(volumes, rank, 3, seed=5)) for rank in range(3)]
    assert len({*parts}) > 1
    assert epochs_of(max(parts), volumes, Compose([]), 1, seed=5) == 1 and epochs_of(max(parts) + 1, volumes, Compose([]), 1, seed=5) == 2


@pytest.mark.parametrize("options", [{"iterations": 0}, {"iterations": 2.5}, {"iterations": True}, {"batch_size": 0}, {"batch_size": "4"}])
def test_both_are_whole_numbers(volumes, options):
    with pytest.raises(OptionError, match=f"{next(iter(options))} is .*expected a whole number"):
        epochs_of(**{"iterations": 3, "cases": volumes, "transform": Compose([]), "batch_size": 4, "seed": 0, **options})


def test_without_cases_there_is_a_sentence():
    with pytest.raises(DataError, match="no cases to train on"):
        epochs_of(100, [], Compose([]), 16, seed=0)
