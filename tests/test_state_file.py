"""Files of weights are read whole or refused in a sentence; what a stranger may put into one is in tests/laws/test_strangers.py."""

from __future__ import annotations

import random

import pytest
import torch
from safetensors.torch import save
from support.strangers import Claim, claiming, saved

from monai_anomaly import state_file
from monai_anomaly.errors import CheckpointError, WeightsError
from monai_anomaly.state_file import read_state


def test_older_weights_are_read(tmp_path):
    """torchvision's first wide_resnet50_2 is such a file, with parameters instead of tensors."""
    state = dict(torch.nn.BatchNorm2d(3).named_parameters()) | {"turned": torch.rand(2, 3).t()}
    (tmp_path / "old.pth").write_bytes(saved(state, legacy=True))
    found = read_state(tmp_path / "old.pth", WeightsError, foreign=True)
    assert list(found) == list(state) and all(torch.equal(found[key], state[key]) for key in state)


def test_one_value_stretched_over_a_tensor_is_read(tmp_path):
    (tmp_path / "a.pt").write_bytes(claiming(Claim(1, 0, (5, 7), (0, 0)), 1))
    assert read_state(tmp_path / "a.pt")["weight"].shape == (5, 7)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.pt").write_bytes(saved({"a": torch.zeros(1000)}))
    monkeypatch.setattr(state_file, "available_bytes", lambda: 4500)
    with pytest.raises(CheckpointError, match="of memory are free"):
        read_state(tmp_path / "a.pt")


def test_a_folder_and_an_absent_file_are_refused(tmp_path):
    for name in ("nothing.pt", "."):
        with pytest.raises(CheckpointError, match="is not there"):
            read_state(tmp_path / name)


def test_damaged_bytes_never_do_more_than_a_refusal(tmp_path):
    rng = random.Random(0)
    state = {f"layer{k}.weight": torch.rand(3, 2) for k in range(4)}
    good = {"a.pt": saved({**state, "plain": {1: [2.5, None]}}), "a.pth": saved(state, legacy=True), "a.safetensors": save(state)}
    refused = 0
    for turn in range(600):
        name = list(good)[turn % 3]
        content = bytearray(good[name])
        for _ in range(rng.choice([1, 1, 3])):
            place = rng.randrange(len(content))
            content[place : place + rng.randrange(2)] = rng.randbytes(rng.randrange(3))
        (tmp_path / name).write_bytes(content)
        try:
            assert type(read_state(tmp_path / name, WeightsError, foreign=True)) is dict
        except WeightsError:
            refused += 1
    assert 200 < refused < 600
