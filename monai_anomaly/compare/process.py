"""A bundle's config in a process of its own, as the command line runs it, with what it says in a log."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

from ..errors import DataError

__all__ = ["config_command", "run_config"]

_PATIENCE_S = 10.0


def config_command(configs: Sequence[Path], flags: Mapping[str, Any]) -> list[str]:
    """The words of ``python -m monai.bundle run`` with configs and flags.

    Args:
        configs: one config, or several of which later ones replace entries of earlier ones.
        flags: values by name; each reaches the config as the very value that it is.

    Example:
        >>> config_command([Path("train.json")], {"maps": [2, 3], "blocks": None})[1:]
        ['-m', 'monai.bundle', 'run', '--config_file=train.json', '--maps=[2, 3]', '--blocks=$None']
    """
    paths = [str(path) for path in configs]
    given = {"config_file": paths[0] if len(paths) == 1 else paths, **flags}
    return [sys.executable, "-m", "monai.bundle", "run", *(f"--{name}={_word(value)}" for name, value in given.items())]


def _word(value: Any) -> str:
    """The command line is read as Python where it can be; a ``None`` on it would count as not given."""
    if value is None:
        return "$None"
    if isinstance(value, str | Path):
        return str(value) if DefaultParseValue(str(value)) == str(value) else repr(str(value))
    return repr(value)


def run_config(configs: Sequence[Path], flags: Mapping[str, Any], log: Path, inherited: Sequence[int] = ()) -> str | None:
    """Run a config to its end. An interruption ends its process, too.

    Args:
        configs: see :func:`config_command`.
        flags: see :func:`config_command`.
        log: what it says is added to this file.
        inherited: open file descriptors that the process keeps open.

    Returns:
        Why it failed, in one sentence, or ``None``.

    Raises:
        DataError: the log cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    except OSError as error:
        raise DataError(
            f"{log} could not be written ({error.strerror}); expected a folder that may be written to: choose another one."
        ) from error
    with file:
        start = file.seek(0, 2)
        command = config_command(configs, flags)
        process = subprocess.Popen(  # noqa: S603, the words are a list, and no shell reads them
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, pass_fds=tuple(inherited)
        )
        try:
            status = process.wait()
        except BaseException:
            # Whatever it was doing: what it has written is whole, and the same command goes on from there.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_S)
            process.kill()
            process.wait()
            raise
    return _reason(log.read_bytes()[start:].decode("utf-8", "replace"), status) if status else None


def _reason(said: str, status: int) -> str:
    """The sentence of an error of the toolkit, or whatever was said last."""
    sentences = re.findall(r"^\d\d:\d\d:\d\d ERROR (.+)$", said, re.MULTILINE)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = sentences[-1] if sentences else lines[-1] if lines and status > 0 else "it says nothing of the reason"
    return last if status > 0 else f"It was ended by signal {-status}; {last}" if sentences else f"It was ended by signal {-status}."
