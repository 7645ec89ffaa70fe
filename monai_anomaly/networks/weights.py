"""Where a teacher's weights come from: a torchvision weight name, a local file, or a seeded random initialisation."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._torchvision import torchvision
from ..errors import OptionError, WeightsError
from ..files import file_sha256
from ..state_file import read_state

__all__ = ["RANDOM", "TeacherWeights", "describe_misfit", "find_weights", "load_into", "named_file", "random_weights"]

logger = logging.getLogger(__name__)

RANDOM = "random"
_FILE_SUFFIXES = (".pth", ".pt", ".safetensors")
_CONNECT_TIMEOUT_S = 15.0


class TeacherWeights(NamedTuple):
    """A teacher's state dict with what is said of it in checkpoints and run records."""

    source: str
    """The weight name, the file's name, or ``"random"``."""
    sha256: str
    """SHA-256 of the file, or of all values of a random initialisation."""
    state: dict[str, Tensor]


def find_weights(model: str, weights: str) -> TeacherWeights:
    """Find the weights of a torchvision model and read them without executing anything.

    Args:
        model: a torchvision ResNet by name, such as ``"wide_resnet50_2"``.
        weights: a local file (``.pth``, ``.pt``, ``.safetensors``) or a torchvision weight name such as ``"IMAGENET1K_V1"``, which is taken from
            ``$TORCH_HOME/hub/checkpoints`` or downloaded there.

    Raises:
        WeightsError: the weights cannot be found, downloaded or read; the message gives the three ways out.
        OptionError: the model has no weights of this name.
    """
    if weights.lower().endswith(_FILE_SUFFIXES) or Path(weights).is_file():
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(f"No teacher weights at {weights}; expected a .pth or .safetensors state dict of {model}: correct the path.")
        return TeacherWeights(path.name, file_sha256(path), _read(path))
    path = _named_weights(model, weights)
    digest = file_sha256(path)
    stated = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    if stated and not digest.startswith(stated.group(1)):
        raise WeightsError(
            f"{path.name} in the torch hub folder has SHA-256 {digest[:16]}..., expected one that starts with {stated.group(1)}: "
            "the download is incomplete or altered; delete the file and start again."
        )
    return TeacherWeights(weights, digest, _read(path))


def random_weights(model: nn.Module) -> TeacherWeights:
    """Describe the random initialisation that ``model`` already has."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(state[key].contiguous().numpy().tobytes())
    return TeacherWeights(RANDOM, digest.hexdigest(), state)


def load_into(model: nn.Module, found: TeacherWeights) -> None:
    """Copy weights into the kept stages of a ResNet; keys of dropped parts (``fc``, deeper stages) are the only ones left aside.

    Raises:
        WeightsError: a key is missing, unknown, or of another shape.
    """
    wanted, dropped = model.state_dict(), ("fc.", "layer2.", "layer3.", "layer4.")
    state = {key: value for key, value in found.state.items() if key in wanted or not key.startswith(dropped)}
    if misfit := describe_misfit(wanted, state):
        raise WeightsError(
            f"{found.source} does not fit the teacher; {misfit}. Expected the state dict of the torchvision model that the teacher "
            "is named after: choose the matching backbone or another file."
        )
    model.load_state_dict(state, strict=False)


def describe_misfit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What keeps one state dict from being loaded in the place of another, the counters of batch normalisation aside; nothing if it fits.

    Example:
        >>> describe_misfit({"weight": torch.zeros(2)}, {"weight": torch.zeros(3), "bias": torch.zeros(3)})
        'unknown: bias (1); of another shape: weight (1)'
    """
    missing = sorted(key for key in set(wanted) - set(found) if not key.endswith("num_batches_tracked"))
    unknown = sorted(set(found) - set(wanted))
    shapes = [key for key in wanted if key in found and found[key].shape != wanted[key].shape]
    parts = [f"{what}: {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''} ({len(keys)})"
             for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)) if keys]  # fmt: skip
    return "; ".join(parts)


def named_file(model: str, weights: str) -> tuple[Path, str]:
    """Where torchvision keeps weights of this name, and the address that they are downloaded from; the file need not be there.

    Raises:
        OptionError: the model has no weights of this name.

    Example:
        >>> named_file("resnet18", "IMAGENET1K_V1")[0].name
        'resnet18-f37072fd.pth'
    """
    try:
        entry = torchvision.models.get_model_weights(model)[weights]
    except KeyError:
        known = [member.name for member in torchvision.models.get_model_weights(model)]
        raise OptionError(
            f"{model} has no torchvision weights called {weights!r}; expected one of {known}, a local file, or 'random'."
        ) from None
    return Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1], entry.url


def _named_weights(model: str, weights: str) -> Path:
    path, address = named_file(model, weights)
    if path.is_file():
        return path
    logger.info("Downloading the teacher weights %s of %s once (%s).", weights, model, path.name)
    try:
        with _connect_timeout(_CONNECT_TIMEOUT_S):
            torch.hub.load_state_dict_from_url(address, progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"The teacher weights {weights} of {model} are not at {path} and could not be downloaded ({reason}). Three ways out: "
            f"(1) connect to the internet once, or copy {path.name} into that folder from a machine that is connected; "
            "(2) name a local file: --teacher_weights FILE.pth (or .safetensors); "
            "(3) accept an untrained teacher, whose results are much weaker: --teacher_weights random."
        ) from error
    return path


@contextlib.contextmanager
def _connect_timeout(seconds: float) -> Iterator[None]:
    """A firewall that swallows packets must end in a message, not in minutes of silence; torch.hub offers no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(path: Path) -> dict[str, Tensor]:
    state = read_state(path, WeightsError, foreign=True)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path.name} holds a dictionary that is no plain state dict; expected one of names to tensors: export the weights alone."
        )
    return state
