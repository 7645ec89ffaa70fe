"""Checkpoints of the publicly released codes, read into the systems of this package.

===========================  =======================================================================================================================
code                         what its checkpoint holds
===========================  =======================================================================================================================
Skip-TS                      the decoder's state dict
RD4AD, DRD                   ``{"bn": ..., "decoder": ...}``; ``bn`` is the bottleneck
ESC-DRKD                     ``{"proj_layer": ..., "decoder": ...}``
SCRD4AD                      the whole module, pickled, which can execute code and is refused: unpickle it where it was made, and save its
                             ``state_dict()``, which has ``encoder``, ``bn``, ``decoder`` and ``mlp`` in it
===========================  =======================================================================================================================
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, OptionError
from ..files import file_sha256
from ..state_file import read_state
from .projection import CentreMaskedConv2d
from .system import System
from .weights import describe_misfit

__all__ = ["load_released"]

logger = logging.getLogger(__name__)

_DECODER = {"student.D3.": "decoder.layer1.", "student.D2.": "decoder.layer2.", "student.D1.": "decoder.layer3."}
_OCBE, _MFCF = (
    {
        **{f"{ours}.conv{k}.0.": f"bn.conv{k}." for k in (1, 2, 3)},
        **{f"{ours}.conv{k}.1.": f"bn.bn{k}." for k in (1, 2, 3)},
        f"{ours}.residual.": "bn.bn_layer.",
    }
    for ours in ("bottleneck", "fusion")
)
_PROJECTIONS = {
    f"projections.{level}.convs.{k}.": f"proj_layer.proj_{letter}.{name}."
    for level, letter in enumerate("abc", start=1)
    for k, name in enumerate(("mc1", "mc2", "conv1", "conv2", "conv3", "conv4"))
}

_NAMES: dict[str, dict[str, str]] = {
    "SkipTS": _DECODER,
    "RD4AD": {**_DECODER, **_OCBE},
    "ESCDRKD": {**_DECODER, **_PROJECTIONS},
    "SCRD4AD": {**_DECODER, **_OCBE, "scale_head.linear.": "mlp.", "teacher.backbone.": "encoder."},
    "DRD": {**_DECODER, **_MFCF},
}
"""How entries' names begin in each system, and in its released code."""

# "memory" is left over from older versions of RD4AD, whose own test drops it.
_UNCALLED = r"bn\.(conv4\.weight|bn4\.\w+|.*memory.*)"
_WITHOUT_EFFECT: dict[str, str] = {
    "SkipTS": "",
    "RD4AD": _UNCALLED,
    "ESCDRKD": r"proj_layer\.(proj_[abc]\.(mc[12]|conv[1-4])\.bias|proj_[abc]\.mc[12]\.mask|proj_a\..+)",
    "SCRD4AD": rf"{_UNCALLED}|encoder\.(fc|layer4)\..+",
    "DRD": _UNCALLED,
}
"""Released entries that need no place in the system, if they have none."""


def load_released(system: System, path: str | os.PathLike[str]) -> list[str]:
    """Read a checkpoint of the system's released code into the system.

    What has no effect there has no place here and is left aside: the bottleneck's 1 x 1 convolution, which is never called; biases in front of an instance
    normalisation; the masks of masked convolutions and what lies under them (set to 0); the projection of level 1, unless ``proj_levels`` has it; the
    teacher's fourth stage and classifier. SCRD4AD's file brings the teacher along, which then replaces the system's; the others' teacher is to be built with
    the weights that their code names (torchvision's first ImageNet weights; Skip-TS: timm's ``wide_resnet50_racm``).

    Args:
        system: built with the teacher and the options of the checkpoint; it is changed in place, or not at all.
        path: the file; nothing in it is executed.

    Returns:
        The names of the entries that were left aside.

    Raises:
        CheckpointError: the file cannot be read, or an entry is missing, unknown, or of another shape.
        OptionError: there is no released code of this system.

    Example:
        >>> import tempfile
        >>> from monai_anomaly.networks import SkipTS, Teacher
        >>> system = SkipTS(Teacher("resnet18", weights="random"))
        >>> names = {"D3": "layer1", "D2": "layer2", "D1": "layer3", "downsample": "upsample"}
        >>> state = {".".join(names.get(part, part) for part in key.split(".")): value for key, value in system.student.state_dict().items()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(state, Path(folder) / "wide_res5010.pth")
        ...     load_released(system, Path(folder) / "wide_res5010.pth")
        []
    """
    path, name = Path(path), type(system).__name__
    if name not in _NAMES:
        raise OptionError(f"There is no released checkpoint of {name}; expected one of {', '.join(_NAMES)}.")
    own = system.state_dict()
    # In the file's names, so that an error speaks of what is in the file.
    wanted = {released: key for key in own if (released := _released_name(name, key)) is not None}
    found = _flatten(path, name, read_state(path, CheckpointError, foreign=True))
    aside = [key for key in found if key not in wanted and re.fullmatch(_WITHOUT_EFFECT[name], key)]
    found = {key: value for key, value in found.items() if key not in aside}
    if misfit := describe_misfit({released: own[key] for released, key in wanted.items()}, found):
        raise CheckpointError(
            f"{path.name} does not fit {name} with a teacher {system.teacher.name}; {misfit}. Expected a checkpoint of the released code of {name}: choose "
            "the matching system, teacher and options, or another file."
        )
    system.load_state_dict({wanted[key]: value for key, value in found.items()}, strict=False)
    for module in system.modules():
        if isinstance(module, CentreMaskedConv2d):
            with torch.no_grad():
                module.weight.mul_(module.mask)
    if "teacher.backbone." in _NAMES[name]:
        system.teacher.source, system.teacher.sha256 = path.name, file_sha256(path)
    logger.info("%s was read into %s; %d of its entries have no effect and were left aside.", path.name, name, len(aside))
    return aside


def _released_name(system: str, key: str) -> str | None:
    """The released code's name of an entry of ours; ``None`` for what its checkpoint does not have."""
    for ours, released in _NAMES[system].items():
        if key.startswith(ours):
            rest = key[len(ours) :]
            return released + (rest.replace("downsample.", "upsample.") if ours in _DECODER else rest)
    return None


def _flatten(path: Path, system: str, state: Mapping[Any, Any]) -> dict[str, Tensor]:
    """One name per tensor, ``part.name`` where the file holds a state dict for each part."""
    parts = {"decoder": state} if system == "SkipTS" else state
    flat: dict[str, Any] = {}
    for part, inner in parts.items():
        flat.update({f"{part}.{key}": value for key, value in inner.items()} if isinstance(inner, Mapping) else {str(part): inner})
    if other := [key for key, value in flat.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(
            f"{path.name} holds {type(flat[other[0]]).__name__} under {other[0]!r}; expected tensors alone, as the released code of {system} saves them: "
            "choose the matching system, or another file."
        )
    return flat
