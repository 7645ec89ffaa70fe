"""What a model's file tells beside its weights: plain data, as JSON bytes in a tensor."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

__all__ = ["FORMAT", "Preprocessing", "json_to_tensor", "read_description", "tensor_to_json"]

FORMAT = 1
"""Of the description; another number is another set of keys."""

_KEYS = {"format", "system", "options", "teacher", "anomaly_map", "pooling", "preprocessing", "calibration", "provenance"}
_DICTIONARIES = ("options", "teacher", "anomaly_map", "preprocessing", "provenance")


class Preprocessing(dict[str, Any]):
    """How images are prepared, by name; a name that the model's file does not tell is its fault, and said so.

    Example:
        >>> Preprocessing(image_size=256)["plane"]
        Traceback (most recent call last):
        ...
        monai_anomaly.errors.CheckpointError: The model's preprocessing does not tell 'plane', only image_size; ...
    """

    def __missing__(self, key: str) -> Any:
        raise CheckpointError(
            f"The model's preprocessing does not tell {key!r}, only {', '.join(map(str, self)) or 'nothing'}; expected all that training writes into "
            "model.pt: use a model of this version, or train again."
        )


def json_to_tensor(data: Any, allow_nan: bool = False) -> Tensor:
    """Plain data as JSON bytes: what is no weight is plain data for sure, and MONAI's checkpoint tools, which ask every entry for its shape, get one.

    Args:
        data: plain data.
        allow_nan: write numbers that are not finite as Python does, which is no JSON.

    Raises:
        ValueError: a number is not finite.
        TypeError: an entry is no plain data.

    Example:
        >>> json_to_tensor([1])
        tensor([91, 49, 93], dtype=torch.uint8)
    """
    return torch.frombuffer(bytearray(json.dumps(data, allow_nan=allow_nan).encode()), dtype=torch.uint8)


def tensor_to_json(state: object) -> Any:
    """Read what :func:`json_to_tensor` wrote.

    Raises:
        TypeError: it is no tensor of bytes.
        ValueError: the bytes are no JSON.
        RecursionError: they are nested too deeply.

    Example:
        >>> tensor_to_json(json_to_tensor({"epochs": 3}))
        {'epochs': 3}
    """
    if not isinstance(state, Tensor) or state.dtype != torch.uint8:
        raise TypeError(f"a {type(state).__name__}")
    return json.loads(state.cpu().numpy().tobytes())


def read_description(state: object) -> dict[str, Any]:
    """Decode the description in a state dict's ``_extra_state``.

    Args:
        state: what :meth:`monai_anomaly.networks.AnomalyDetector.get_extra_state` gave.

    Raises:
        CheckpointError: it is anything else, or of a newer format.
    """
    try:
        description = tensor_to_json(state)
        if set(description) != _KEYS:
            raise KeyError("keys " + ", ".join(sorted(description)))
        if not all(isinstance(description[key], dict) for key in _DICTIONARIES) or not {"source", "sha256"} <= set(description["teacher"]):
            raise TypeError("entries of the wrong type")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"The checkpoint's description cannot be read ({error}); expected one written by monai_anomaly: use a model.pt that training wrote."
        ) from error
    if description["format"] != FORMAT:
        raise CheckpointError(
            f"The checkpoint has format {description['format']}; this version reads format {FORMAT}: update monai_anomaly."
        )
    return dict(description)
