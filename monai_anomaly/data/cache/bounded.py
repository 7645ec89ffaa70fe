"""A private folder of files that may be deleted at any time, and that stays below a bound by deleting those used longest ago."""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from ...errors import DataError
from ...files import write_whole

__all__ = ["BoundedFolder"]

logger = logging.getLogger(__name__)

LOOKS = 64
"""The folder is looked through each time that 1/64 of its bound has been written."""
LEFT_BEHIND_S = 24 * 3600


class BoundedFolder:
    """Files named ``<64 hexadecimal digits><suffix>``, and a ``README.txt``. Other files are neither counted nor touched.

    Args:
        path: made when first needed, readable by its owner only.
        max_bytes: bound; processes that write at the same time may each go beyond it by 1/64.
        suffix: end of the names.
        readme: what to tell who finds the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as above:
        ...     folder = BoundedFolder(Path(above) / "new", 100, ".bin", "Delete at any time.")
        ...     for name in "abc":
        ...         folder.make_room(40)
        ...         written = folder.file(name * 64).write_bytes(bytes(40))
        ...     sorted(path.name[0] for path in folder.path.iterdir())
        ['R', 'b', 'c']
    """

    def __init__(self, path: Path, max_bytes: int, suffix: str, readme: str):
        self.path, self.max_bytes, self.suffix, self.readme = path, max_bytes, suffix, readme
        self._entry = re.compile(rf"[0-9a-f]{{64}}{re.escape(suffix)}")
        self._part = re.compile(rf"\.{self._entry.pattern}\.[0-9a-f]+\.part")  # as files.write_whole names them
        self._room = 0
        self._ready = False

    def file(self, name: str) -> Path:
        """Path of the file with a name of 64 hexadecimal digits; it need not exist."""
        return self.path / f"{name}{self.suffix}"

    def make_room(self, size: int) -> None:
        """Make the folder if need be, and delete the files used longest ago until ``size`` more bytes fit.

        Raises:
            DataError: they do not fit, because what is there cannot be deleted.
            OSError: the folder cannot be made.
        """
        self._prepare()
        if size > self._room:
            step = max(size, self.max_bytes // LOOKS)
            entries, total = self._entries()
            for _, entry_size, path in entries:
                if total + step <= self.max_bytes:
                    break
                with suppress(OSError):  # gone already; or in use, where the system does not allow it
                    os.unlink(path)
                    total -= entry_size
            self._room = min(step, self.max_bytes - total)
        if size > self._room:
            raise DataError(f"{self.path} is full and its files cannot be deleted; expected a folder of one's own: name another.")
        self._room -= size

    def _prepare(self) -> None:
        if self._ready:
            return
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name == "posix" and self.path.stat().st_mode & 0o077:
            if any(self.path.iterdir()):
                logger.warning(
                    "%s is for its owner alone (see its README.txt) and can be opened by others: chmod 700 it, or name a new folder.",
                    self.path,
                )
            else:
                self.path.chmod(0o700)
        if not (self.path / "README.txt").exists():
            write_whole(self.path / "README.txt", self.readme.encode())
        self._ready = True

    def _entries(self) -> tuple[list[tuple[int, int, str]], int]:
        """Last use, size and path of each file, and their size together; what killed runs left half written goes."""
        found = []
        with os.scandir(self.path) as items:
            for item in items:
                with suppress(OSError):
                    if self._entry.fullmatch(item.name):
                        state = item.stat(follow_symlinks=False)
                        found.append((state.st_mtime_ns, state.st_size, item.path))
                    elif self._part.fullmatch(item.name) and item.stat(follow_symlinks=False).st_mtime < time.time() - LEFT_BEHIND_S:
                        os.unlink(item.path)
        return sorted(found), sum(size for _, size, _ in found)
