"""What two processes do together: one start of both, looked at from all sides."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny import tiny_detector
from support.two_ranks import IMAGES_OF_RANK, Images, adam, loss

from monai_anomaly.errors import OptionError
from monai_anomaly.ranks import rank_device, start_ranks
from monai_anomaly.training import sync_batch_norm

SCRIPT = Path(__file__).parent / "support" / "two_ranks.py"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT), str(folder)]
    places = os.pathsep.join(map(str, (SCRIPT.parents[2], SCRIPT.parents[1])))
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_what_rank_0_makes_or_refuses_all_have_or_refuse(ranks):
    assert [found["value"] for found in ranks] == [{"made on": 0}] * 2
    assert [found["error"] for found in ranks] == ["scan 0 is empty"] * 2
    assert [found["gathered"] for found in ranks] == [["of rank 0", "of rank 1"]] * 2


@pytest.mark.slow
def test_each_rank_draws_its_own_numbers_the_same_ones_in_each_repetition(ranks):
    for first, second, again in (found["draws"] for found in ranks):
        assert first == again and all(a != b for a, b in zip(first, second, strict=True))
    assert all(a != b for a, b in zip(ranks[0]["draws"][0], ranks[1]["draws"][0], strict=True))


@pytest.mark.slow
def test_ranks_have_as_many_slices_as_the_one_that_has_most_and_leave_none_out(ranks):
    for found, n in zip(ranks, IMAGES_OF_RANK, strict=True):
        first, second = found["order"]
        assert len(first) == len(second) == max(IMAGES_OF_RANK) and first != second
        assert sorted(first[:n]) == sorted(second[:n]) == list(range(n)) and set(first) == set(range(n))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 1], ids=["BatchNorm2d", "SyncBatchNorm"])
def test_refreshed_statistics_are_the_mean_over_the_batches_of_both_ranks(ranks, kind):
    parts = [found["refreshed"][kind] for found in ranks]
    assert [len(part["inputs"]) for part in parts] == [3, 2]  # each image once, whatever the other rank has
    batches = [batch.double().numpy() for part in parts for batch in part["inputs"]]
    mean = np.mean([batch.mean((0, 2, 3)) for batch in batches], axis=0)
    var = np.mean([batch.var((0, 2, 3), ddof=1) for batch in batches], axis=0)
    for part in parts:
        np.testing.assert_allclose(part["mean"].numpy(), mean, atol=1e-6)
        np.testing.assert_allclose(part["var"].numpy(), var, rtol=1e-4)
        assert part["type"] == ("BatchNorm2d", "SyncBatchNorm")[kind] and part["momentum"] == 0.1


@pytest.mark.slow
def test_a_step_on_two_shards_is_one_step_with_the_averaged_gradient(ranks):
    gradients = []
    for rank in (0, 1):
        detector = tiny_detector().train()
        loss()(detector(Images(rank).images[:3]))["loss"].backward()
        gradients.append([parameter.grad.clone() for parameter in detector.trainable_parameters()])
    averaged = [(a + b) / 2 for a, b in zip(*gradients, strict=True)]
    assert not all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients[0], averaged, strict=True))
    alone = tiny_detector().train()
    optimizer = adam(alone.trainable_parameters())
    for parameter, gradient in zip(alone.trainable_parameters(), ranks[0]["step"]["gradients"], strict=True):
        parameter.grad = gradient
    optimizer.step()
    for found in ranks:
        for seen, expected in zip(found["step"]["gradients"], averaged, strict=True):
            torch.testing.assert_close(seen, expected, atol=1e-6, rtol=1e-4)
        for seen, expected in zip(found["step"]["weights"], alone.trainable_parameters(), strict=True):
            assert torch.equal(seen, expected)


def test_a_process_that_torchrun_did_not_start_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(OptionError, match="expected torchrun in front"):
        start_ranks("cpu")


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank_device() == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(OptionError, match="--nproc_per_node=2"):
        rank_device()


def test_synchronised_layers_are_the_students_with_the_same_weights(monkeypatch):
    detector = tiny_detector()
    with pytest.raises(OptionError, match="device is a CPU"):
        sync_batch_norm(detector)
    names, weights = list(detector.state_dict()), detector.trainable_parameters()
    # On torch's device "meta" layers are converted as on a GPU, and none is needed.
    changed = sync_batch_norm(detector.to("meta"))
    kinds = {name: type(part) for name, part in changed.named_modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)}
    assert {kind for name, kind in kinds.items() if "teacher" in name} == {torch.nn.BatchNorm2d}
    assert {kind for name, kind in kinds.items() if "teacher" not in name} == {torch.nn.SyncBatchNorm}
    assert list(changed.state_dict()) == names and len(weights) == len(changed.trainable_parameters())
