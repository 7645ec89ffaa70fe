"""Folders of our own: where the user's cache is, and how a folder comes to be whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["scratch_folder", "user_cache"]

FORGOTTEN_AFTER_S = 3600


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
