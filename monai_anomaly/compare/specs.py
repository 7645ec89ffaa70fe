"""How a system is named on the command line: a bundle, its overlay configs, and flags with other values than its own."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser

from ..bundle_root import root
from ..errors import OptionError
from ..pack import bundle_names

__all__ = ["Spec", "check_flags", "parse_flags", "parse_spec"]

SCORING = ("maps", "pooling")
"""Flags that a trained model can be evaluated with anew."""
BUDGET = {"dataset_dir": "--dataset_dir", "output_dir": "--out", "seed": "--seeds", "epochs": "--epochs", "iterations": "--epochs"}
"""Flags of train.json that all runs share, and what says them."""
NEUTRAL = ("cache_dir", "cache_gb", "checkpoint_interval", "device", "num_workers", "val_interval")
"""Flags of train.json that stand beside its settings, because no number depends on them."""

_OWN = ("train", "evaluate", "inference", "metadata")


class Spec(NamedTuple):
    """A system as it takes part in a comparison.

    Example:
        >>> spec = parse_spec("skipts:beta=0,maps=[2,3]")
        >>> spec.bundle, dict(spec.flags), str(spec.trained)
        ('skipts', {'beta': 0, 'maps': [2, 3]}, 'skipts:beta=0')
    """

    bundle: str
    overlays: tuple[str, ...] = ()
    """Names of configs in the bundle's folder, without ``.json``."""
    flags: Mapping[str, Any] = {}
    """Flags of train.json by name."""

    def __str__(self) -> str:
        flags = ",".join(f"{name}={_written(value)}" for name, value in self.flags.items())
        return "+".join([self.bundle, *self.overlays]) + (f":{flags}" if flags else "")

    @property
    def trained(self) -> Spec:
        """The system that is trained for it: without the flags that concern scoring alone."""
        return self._replace(flags={name: value for name, value in self.flags.items() if name not in SCORING})

    @property
    def scoring(self) -> dict[str, Any]:
        """The other flags: those that concern scoring alone."""
        return {name: value for name, value in self.flags.items() if name in SCORING}

    @property
    def folder(self) -> Path:
        """The bundle's folder."""
        return Path(root(self.bundle))

    @property
    def configs(self) -> list[Path]:
        """The configs that train it."""
        return [self.folder / f"{name}.json" for name in ("train", *self.overlays)]


def parse_spec(text: str) -> Spec:
    """Read ``BUNDLE[+OVERLAY ...][:FLAG=VALUE,...]``.

    Args:
        text: such as ``"skipts"``, ``"skipts:measure=mse"``, ``"skipts:maps=[2,3],pooling=top_20%"`` or ``"skipts+traditional_kd"``.

    Raises:
        OptionError: there is no such bundle, overlay or flag; the names that come near are told.
    """
    names, _, flags = text.partition(":")
    bundle, *overlays = names.split("+")
    if bundle not in bundle_names():
        raise OptionError(f"{text!r} names a system {bundle!r} that there is no bundle of; {_near(bundle, bundle_names())}")
    known = _overlay_names(Path(root(bundle)))
    for overlay in overlays:
        if overlay not in known:
            raise OptionError(f"{text!r} names an overlay {overlay!r} that bundles/{bundle} does not have; {_near(overlay, known)}")
    spec = Spec(bundle, tuple(overlays), parse_flags(_split(flags)) if flags else {})
    check_flags(spec, spec.flags, repr(text))
    return spec


def parse_flags(words: Iterable[str]) -> dict[str, Any]:
    """Read ``NAME=VALUE``; values as JSON or Python writes them, anything else is text.

    Raises:
        OptionError: a word without a name or ``=``, or a name that comes twice.

    Example:
        >>> parse_flags(["amp=true", "maps=[2,3]", "pooling=top_20%", "lr=1e-3"])
        {'amp': True, 'maps': [2, 3], 'pooling': 'top_20%', 'lr': 0.001}
    """
    flags: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise OptionError(f"{word!r} is no flag with a value; expected NAME=VALUE, such as image_size=128.")
        if name in flags:
            raise OptionError(f"The flag {name} is given twice, the second time as {word!r}; expected it once.")
        flags[name] = _read(value)
    return flags


def check_flags(spec: Spec, names: Iterable[str], where: str) -> None:
    """Make sure that the system's train.json has flags of these names, and that they are not of the budget that all systems share.

    Args:
        spec: the system.
        names: names of flags.
        where: what gives them, for the message.

    Raises:
        OptionError: one is not known, fixed by an overlay, or of the budget.
    """
    config = ConfigParser.load_config_files([str(path) for path in spec.configs])
    known = sorted({*config["settings"], *NEUTRAL} & set(config) - set(BUDGET))
    fixed = {key.split("#")[0]: name for name in spec.overlays for key in ConfigParser.load_config_file(spec.folder / f"{name}.json")}
    for name in names:
        if name in BUDGET:
            raise OptionError(f"{where} sets {name}, which is the same for all runs; expected it as {BUDGET[name]}.")
        if name in fixed:
            raise OptionError(f"{where} sets {name}, which {fixed[name]}.json of bundles/{spec.bundle} fixes; expected it without {name}.")
        if name not in known:
            raise OptionError(f"{where} sets {name!r}, a flag that bundles/{spec.bundle}/train.json does not have; {_near(name, known)}")


def _overlay_names(folder: Path) -> list[str]:
    names = sorted(path.stem for path in folder.glob("*.json"))
    return [name for name in names if name not in _OWN and not name.startswith("multi_gpu_")]


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 3)
    return (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"expected one of {', '.join(known)}."
        if known
        else "expected none, for it has none."
    )


def _split(text: str) -> list[str]:
    """At commas outside brackets."""
    words, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            words.append("")
        else:
            words[-1] += character
    return words


def _read(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)
