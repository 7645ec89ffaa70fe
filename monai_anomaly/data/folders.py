"""Folders of our own: where the user's cache is, and how a folder comes to be whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import DataError

__all__ = ["publish", "scratch_folder", "user_cache"]

FORGOTTEN_AFTER_S = 3600
ATTEMPTS = 10
OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def user_cache() -> Path:
    """The folder ``monai_anomaly`` in the user's cache (``$XDG_CACHE_HOME`` or ``~/.cache``); it need not exist.

    Example:
        >>> user_cache().name
        'monai_anomaly'
    """
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "monai_anomaly").expanduser().absolute()


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A temporary folder ``.<name>.writing-*`` in ``parent``, readable by its owner only, to write into and rename from.

    It is removed at the end. Those of the same name that killed processes left behind are removed at the beginning, once nothing in them has been added or
    renamed for an hour: who writes for longer touches the folder now and then.

    Args:
        parent: an existing folder.
        name: what is being written.

    Raises:
        OSError: it cannot be made.

    Example:
        >>> with tempfile.TemporaryDirectory() as parent, scratch_folder(Path(parent), "study") as scratch:
        ...     scratch.is_dir()
        True
    """
    prefix = f".{name}.writing-"
    for leftover in parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(FileNotFoundError):  # its owner may be removing it just now
            if time.time() - leftover.stat().st_mtime > FORGOTTEN_AFTER_S:
                shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def publish(
    whole: Path, folder: Path, scratch: Path, is_whole: Callable[[Path], bool], may_replace: Callable[[Path], object] = bool
) -> None:
    """Rename a folder that was written whole to its place. Another process may have been quicker: what it put there stays if it is whole, else it makes room.

    Args:
        whole: what was written, in ``scratch``.
        folder: its place.
        scratch: see :func:`scratch_folder`; what makes room goes there.
        is_whole: whether the folder that is there will do.
        may_replace: raises if what is there must not make room.

    Raises:
        DataError: others kept putting something there.
        OSError: it cannot be renamed.

    Example:
        >>> with tempfile.TemporaryDirectory() as parent, scratch_folder(Path(parent), "study") as scratch:
        ...     (scratch / "whole").mkdir()
        ...     publish(scratch / "whole", Path(parent, "study"), scratch, is_whole=Path.is_dir)
        ...     os.listdir(Path(parent, "study"))
        []
    """
    for attempt in range(ATTEMPTS):
        try:
            os.rename(whole, folder)
            return
        except OSError as error:
            failed = error
        if is_whole(folder):
            return
        may_replace(folder)
        with suppress(FileNotFoundError):  # it has gone meanwhile, or was never there
            os.rename(folder, scratch / f"replaced-{attempt}")
    if failed.errno not in OCCUPIED:
        raise failed
    raise DataError(f"{folder} kept changing while it was written; expected to be alone: end the other processes, run again.") from failed
