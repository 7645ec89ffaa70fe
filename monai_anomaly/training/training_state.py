"""The file that a run goes on from: what is in it, written whole, and checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files import write_whole
from ..networks import AnomalyDetector
from ..networks.description import json_to_tensor, tensor_to_json
from ..state_file import read_state

__all__ = ["TrainingState", "check_fits", "read_training_state", "write_training_state"]

_FORMAT = 1
_PLAIN = (bool, int, float, str, type(None))


class TrainingState(NamedTuple):
    """A run between two epochs."""

    epoch: int
    """Epochs that are done."""
    iteration: int
    """Batches that are done."""
    identity: dict[str, Any]
    """See :func:`monai_anomaly.training.identify`."""
    record: dict[str, Any]
    """See :meth:`monai_anomaly.training.RunRecord.state_dict`."""
    network: dict[str, Tensor]
    """The detector's state dict without its frozen teacher and its description."""
    optimizer: dict[str, Any]
    """The optimiser's state dict."""

    def restore(self, detector: AnomalyDetector, optimizer: torch.optim.Optimizer) -> None:
        """Put the weights and the optimiser's state back; :func:`read_training_state` has made sure that they fit."""
        optimizer.load_state_dict(self.optimizer)
        detector.load_state_dict(self.network, strict=False)  # the teacher is there already


def write_training_state(path: str | Path, detector: AnomalyDetector, optimizer: torch.optim.Optimizer, **about: Any) -> Path:
    """Write the state of a run, whole.

    Args:
        path: usually ``checkpoint.pt`` in the run's folder.
        detector: the detector (not its DDP wrapper).
        optimizer: over the detector's trainable parameters.
        about: ``epoch``, ``iteration``, ``identity`` and ``record`` of :class:`TrainingState`.

    Raises:
        DataError: it cannot be written; a file that was there is as it was.
    """
    state = {
        "format": _FORMAT,
        "about": json_to_tensor(about, allow_nan=True),
        "network": _trained(detector),
        "optimizer": optimizer.state_dict(),
    }
    return write_whole(path, lambda file: torch.save(state, file))


def read_training_state(path: str | Path) -> TrainingState:
    """Read the state of a run; nothing in the file is executed, and nothing of it is used before all of it was looked at.

    Args:
        path: a file that :func:`write_training_state` wrote.

    Raises:
        CheckpointError: it cannot be read, or holds anything else.
    """
    path = Path(path)
    state = read_state(path)
    try:
        if set(state) != {"format", "about", "network", "optimizer"}:
            raise TypeError("other entries than format, about, network and optimizer")
        if state["format"] != _FORMAT:
            raise ValueError(f"format {state['format']!r}, expected {_FORMAT}")
        about = tensor_to_json(state["about"])
        found = TrainingState(network=state["network"], optimizer=state["optimizer"], **about)
        _check_about(found)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, MemoryError) as error:
        raise _refusal(path, f"is no state of a training ({str(error)[:200]})") from error
    return found


def check_fits(path: str | Path, state: TrainingState, detector: AnomalyDetector) -> None:
    """Make sure that a state can be restored as a whole, before any of it is.

    Args:
        path: where it was read, for the message.
        state: the state.
        detector: a detector as the run's settings make it.

    Raises:
        CheckpointError: an entry is missing, unknown, or of another type or shape.
    """
    wanted = _trained(detector)
    odd = sorted({*map(str, wanted)} ^ {*map(str, state.network)})
    odd += [key for key in wanted if not odd and not _alike(state.network[key], wanted[key])]
    if not odd:
        odd = _odd_in_optimizer(state.optimizer, detector.trainable_parameters())
    if odd:
        raise _refusal(Path(path), f"does not fit the network ({', '.join(odd[:3])}{', ...' if len(odd) > 3 else ''})")


def _refusal(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path} {found}; expected the checkpoint.pt that this training writes, and nothing in it was executed: delete it to start anew, or name another "
        "folder with --output_dir."
    )


def _trained(detector: AnomalyDetector) -> dict[str, Tensor]:
    """Everything but the frozen teacher, which has its hash in the identity, and the description."""
    state = detector.state_dict()
    return {key: value for key, value in state.items() if not key.startswith("system.teacher.") and not key.endswith("_extra_state")}


def _check_about(state: TrainingState) -> None:
    for name in ("epoch", "iteration"):
        value = getattr(state, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} {value!r}")
    if not all(isinstance(part, dict) for part in (state.identity, state.record, state.network, state.optimizer)):
        raise TypeError("entries of the wrong type")
    if set(state.identity) != {"settings", "teacher", "data", "cases", "processes"} or not isinstance(state.identity["settings"], dict):
        raise KeyError("no identity of a run")
    kinds = {"epochs": list, "resumed": list, "device": str, "versions": dict, "wall_time_s": float}
    if set(state.record) != set(kinds) or not all(isinstance(state.record[name], kind) for name, kind in kinds.items()):
        raise KeyError("no record of a run")
    if len(state.record["epochs"]) != state.epoch or not all(isinstance(terms, dict) for terms in state.record["epochs"]):
        raise ValueError("losses of other epochs than were done")


def _alike(value: Any, wanted: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == wanted.shape and value.dtype == wanted.dtype


def _odd_in_optimizer(state: Mapping[str, Any], parameters: list[torch.nn.Parameter]) -> list[str]:
    moments, groups = state.get("state"), state.get("param_groups")
    if set(state) != {"state", "param_groups"} or not isinstance(moments, dict) or not isinstance(groups, list):
        return ["optimizer"]
    if not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups):
        return ["optimizer.param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    plain = [value for group in groups for key, values in group.items() if key != "params"
             for value in (values if isinstance(values, list | tuple) else [values])]  # fmt: skip
    if numbers != list(range(len(parameters))) or not all(isinstance(value, _PLAIN) for value in plain):
        return ["optimizer.param_groups"]
    if not set(moments) <= set(numbers):
        return ["optimizer.state"]
    return [
        f"optimizer.state.{number}"
        for number, entries in moments.items()
        if not isinstance(entries, dict)
        or not all(isinstance(value, Tensor) and value.shape in ((), parameters[number].shape) for value in entries.values())
    ]
