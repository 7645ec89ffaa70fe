"""One comparison at a time in a folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError, OptionError

__all__ = ["hold_folder"]

PATIENCE_S = 5.0
"""How long to wait for it: a process that has just been killed needs a moment to let go."""


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[tuple[int, ...]]:
    """Keep other comparisons out of a folder.

    The lock is the operating system's, so that nothing is left behind by a process that was killed. A process that inherits the descriptor holds it, too: a
    training that outlives its killed comparison is not trained a second time beside it. Windows has no such lock; there the folder is not held.

    Args:
        folder: made if it is not there.

    Returns:
        The file descriptor that holds the lock.

    Raises:
        OptionError: another one is at work there.
        DataError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written to ({error.strerror}); expected a folder for the runs: choose another --out."
        ) from error
    with file:
        try:
            import fcntl
        except ImportError:
            yield ()
            return
        begun = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() - begun > PATIENCE_S:
                    raise OptionError(
                        f"{folder} is in use: another comparison, or a run that a killed one has left, is at work there; expected a folder of one's own: wait "
                        "until it has ended, or choose another --out."
                    ) from error
                time.sleep(0.1)
        yield (file.fileno(),)
