"""The plain data in a model's file."""

from __future__ import annotations

import json

import pytest
import torch

from monai_anomaly.errors import CheckpointError
from monai_anomaly.networks.description import FORMAT, json_to_tensor, read_description, tensor_to_json

DESCRIPTION = {
    "format": FORMAT, "system": "RD4AD", "options": {}, "teacher": {"source": "random", "sha256": ""}, "anomaly_map": {}, "pooling": "max",
    "preprocessing": {}, "calibration": None, "provenance": {"epochs": 3},
}  # fmt: skip


def test_the_bytes_are_the_json():
    state = json_to_tensor(DESCRIPTION)
    assert state.dtype == torch.uint8 and bytes(state.tolist()) == json.dumps(DESCRIPTION).encode()
    assert tensor_to_json(state) == read_description(state) == DESCRIPTION


def test_numbers_that_are_not_finite_are_written_only_where_that_is_said():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_to_tensor([float("nan")])
    assert tensor_to_json(json_to_tensor([float("inf")], allow_nan=True)) == [float("inf")]


@pytest.mark.parametrize(
    "state",
    [None, "text", torch.zeros(2), torch.zeros(3, dtype=torch.uint8), json_to_tensor(3), json_to_tensor({**DESCRIPTION, "teacher": {}})],
)
def test_anything_else_is_refused(state):
    with pytest.raises(CheckpointError, match=r"description cannot be read .* use a model\.pt that training wrote"):
        read_description(state)


def test_a_newer_format_is_refused():
    with pytest.raises(CheckpointError, match=f"has format {FORMAT + 1}; this version reads format {FORMAT}: update"):
        read_description(json_to_tensor({**DESCRIPTION, "format": FORMAT + 1}))
