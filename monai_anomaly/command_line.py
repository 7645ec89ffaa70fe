"""A run on MONAI's command line speaks plainly: flags that would change nothing are refused, and what the toolkit refuses is one sentence."""

from __future__ import annotations

import ast
import difflib
import inspect
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import monai.bundle
import torch
from monai.bundle import ConfigParser

from ._optional_decoder import ignore_optional_decoder
from .errors import OptionError, find_anomaly_error

__all__ = ["begin", "config_files", "content_of", "given_flags"]

logger = logging.getLogger(__name__)

CONFIGS = (".json", ".yaml", ".yml")
"""What MONAI reads a config from."""

MEANT = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}
"""Words that are meant as one of two values; to MONAI's command line only ``True`` and ``False`` are."""

OTHERS_FIRST_S = 5.0
"""How long a process of several waits before it tells its error: ``torchrun`` ends all of them within a second of the first one's end."""


def begin() -> None:
    """Make a run on the command line speak plainly: one sentence instead of a traceback through MONAI when the toolkit refuses something.

    Of several processes, rank 0 tells what they all do; the others tell errors, and which of their files they leave out.
    """
    ignore_optional_decoder()
    sys.excepthook = _report
    if _rank() > 0:
        logging.getLogger().setLevel(logging.ERROR)
        logging.getLogger("monai_anomaly.data").setLevel(logging.WARNING)
    _check_flags(sys.argv)


def _rank() -> int:
    """Number of this process, from its environment: there may be no process group yet."""
    return int(os.environ.get("RANK", "0"))


def _check_flags(arguments: Sequence[str]) -> None:
    """MONAI adds a flag that the config does not have, silently; a mistyped one would change nothing. And it takes ``false`` for a text, which is true."""
    given = given_flags(arguments)
    configs = config_files(given.get("config_file", ""))
    keys = [key.removeprefix("+").replace("::", "#").split("#")[0] for config in configs for key in content_of(config)]
    if "bundle_root" not in keys:
        return  # not a run of a bundle on the command line: scripts of the user's own may have such a flag, too
    known = {*keys, *inspect.signature(monai.bundle.run).parameters}
    for name, value in given.items():
        if value.lower() in MEANT and value not in ("True", "False"):
            raise OptionError(f"--{name} {value} is a text to MONAI's command line; expected --{name} {MEANT[value.lower()]}.")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise OptionError(
                f"{' + '.join(Path(config).name for config in configs)} has no flag --{name}"
                + (f"; did you mean --{near[0]}?" if near else "; its flags stand in docs/README.md and docs/shared.md.")
            )


def given_flags(arguments: Sequence[str]) -> dict[str, str]:
    """The flags among the words of a command line, each by its top-level key: ``{"train": "False"}`` for ``--train#dataloader#shuffle False``.

    Args:
        arguments: usually :data:`sys.argv`.

    Example:
        >>> given_flags(["run", "--config_file=train.json", "--train::dataset", "@mine"])
        {'config_file': 'train.json', 'train': '@mine'}
    """
    given = {}
    for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            given[name.replace("::", "#").split("#")[0]] = value or following
    return given


def config_files(given: str) -> list[str]:
    """The configs that a flag names and that are there.

    Args:
        given: one file, or several as MONAI's command line takes them: ``"['a.json','b.yaml']"`` or ``a.json,b.yaml``.

    Example:
        >>> config_files("no/such/train.json")
        []
    """
    try:
        files = ast.literal_eval(given) if given.startswith(("[", "(")) else [given] if os.path.isfile(given) else given.split(",")
    except (SyntaxError, ValueError):
        return []
    return [file for file in files if isinstance(file, str) and file.lower().endswith(CONFIGS) and os.path.isfile(file)]


def content_of(config: str) -> dict[str, Any]:
    """What a config holds; nothing where the file is none. Of its own MONAI has said so before; that of another script may be anything.

    Args:
        config: from :func:`config_files`.

    Example:
        >>> content_of("no/such/train.json")
        {}
    """
    try:
        content = ConfigParser.load_config_file(config)
    except Exception:  # whatever a reader of JSON or YAML raises; also that there is none for YAML
        return {}
    return {str(key): value for key, value in content.items()} if isinstance(content, dict) else {}


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    inner = find_anomaly_error(error)
    if torch.distributed.is_torchelastic_launched() and issubclass(kind, Exception) and (inner is None or _rank() > 0):
        # Most errors are the same in all processes, or follow from the end of one ("connection closed by peer"): what rank 0 refuses is told once.
        time.sleep(OTHERS_FIRST_S)
    if inner is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        logger.error("%s", inner)
