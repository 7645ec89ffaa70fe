"""Decoded cases on disk, so that an image is decoded and preprocessed once and not in every run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ... import __version__
from ...errors import DataError, OptionError
from ...files import file_sha256, write_whole
from ..cases import Case, case_files
from .bounded import BoundedFolder
from .describe import describe

__all__ = ["CaseCache"]

logger = logging.getLogger(__name__)

FORMAT = 1
YOUNG_NS = 3 * 10**9
"""A file that changed less than 3 s ago may change again without a new time: some file systems count in steps of 2 s."""
HEADER_BYTES = 4096
"""More than names, types and shapes take in an entry."""
README = """\
Decoded and preprocessed images, kept by monai_anomaly so that they need not be decoded again (option cache_dir).
The files hold PIXELS OF PATIENTS and are named by hashes only. Nothing else needs them: delete the folder at any time.
"""


class CaseCache:
    """A folder of preprocessed cases, bounded, and shared by runs and by processes that run at the same time.

    An entry is found by its key, which depends on everything that its content depends on: a file or an option that changes makes another key. Entries are
    written whole, carry a checksum, hold tensors only (safetensors, nothing that can execute code), and are mapped into memory instead of read, so that
    processes share one copy and the system drops it when memory gets short. Those used longest ago make room for new ones. What cannot be written (disk full,
    folder read-only) costs one warning and time, nothing else.

    Args:
        folder: made when first written to, readable by its owner only.
        max_bytes: bound on its size; processes that write at the same time may each go beyond it by 1/64.

    Raises:
        OptionError: a bound that is no positive number.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = CaseCache(folder)
        ...     stored = cache.store("0" * 64, {"image": torch.ones(2, 1, 8, 8)})
        ...     stored, cache.load("0" * 64)["image"].sum().item(), cache.load("1" * 64)
        (True, 128.0, None)
    """

    def __init__(self, folder: str | os.PathLike[str], max_bytes: float = 50e9):
        if not max_bytes > 0:
            raise OptionError(f"The size of the cache is {max_bytes} bytes; expected more than 0: set cache_gb, or cache_dir to null.")
        self.folder, self.max_bytes = Path(folder).expanduser().absolute(), int(min(max_bytes, 2**62))
        self._files = BoundedFolder(self.folder, self.max_bytes, ".safetensors", README)
        self._writable = True
        self._checked: set[tuple[str, int]] = set()
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the lock, for worker processes."""
        return {key: value for key, value in vars(self).items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over, with a new lock."""
        vars(self).update(state, _lock=threading.Lock())

    def key(self, case: Case, transform: Callable[..., Any]) -> str | None:
        """Under what name the result of ``transform(case)`` is kept.

        Args:
            case: its entries, and of each of its files path, size, times and inode are part of the key; a file that changed within the last seconds counts
                by its content.
            transform: all that is done to the case; see :func:`~monai_anomaly.data.cache.describe.describe`.

        Returns:
            64 hexadecimal digits; ``None`` if a file cannot be opened, or if the transform cannot be described (then a warning says why, once).
        """
        try:
            told = describe([sorted(case.items()), transform])
        except OptionError as error:
            self._say(f"Nothing is cached: {error}")
            return None
        names = [*case_files(case), *([case["mask"]] if "mask" in case else [])]
        try:
            files = [_file_state(name) for name in names]
        except (OSError, ValueError):  # decoding it says what is wrong
            return None
        return hashlib.sha256(json.dumps([FORMAT, __version__, told, files]).encode()).hexdigest()

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The tensors stored under a key, mapped into memory; writing to them leaves the file as it is.

        Returns:
            ``None`` if there are none, or none that are whole: a damaged file is removed.
        """
        path = self._files.file(key)
        try:
            state = os.lstat(path)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("no file")
            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no dictionary
            if (key, state.st_ino) not in self._checked:
                if told != _label(key, tensors):
                    raise ValueError("another checksum or key")
                self._checked.add((key, state.st_ino))
        except (OSError, RuntimeError):  # it has just gone, or cannot be opened or mapped now: no reason to remove it
            return None
        except (SafetensorError, ValueError, TypeError) as error:
            logger.info("A cached case is damaged (%s) and is prepared again.", type(error).__name__)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):  # not ours to touch, or read-only
            os.utime(path)
        return tensors

    def store(self, key: str, tensors: Mapping[str, Tensor]) -> bool:
        """Keep tensors under a key, whole or not at all.

        Args:
            key: from :meth:`key`.
            tensors: contiguous ones.

        Returns:
            Whether they are kept.
        """
        size = HEADER_BYTES + sum(tensor.nbytes for tensor in tensors.values())
        if size > self.max_bytes:
            self._say(f"Cases larger than the cache ({self.max_bytes / 1e9:.3g} GB) are not cached: set cache_gb higher.")
            return False
        with self._lock:  # one at a time: writing needs the case once more in memory
            if not self._writable:
                return False
            try:
                content = safetensors.torch.save(dict(tensors), metadata=_label(key, tensors))
                self._files.make_room(len(content))
                write_whole(self._files.file(key), content)
            except (OSError, DataError, MemoryError) as error:
                self._writable = False
                self._say(f"Nothing more is cached: {error}")
                return False
        return True

    def _say(self, warning: str) -> None:
        if warning not in self._said:
            self._said.add(warning)
            logger.warning("%s", warning)


def _file_state(name: str) -> list[Any]:
    """What changes whenever the file does."""
    path = os.path.abspath(name)
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise OSError("no file")
    told: list[Any] = [path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    if max(state.st_mtime_ns, state.st_ctime_ns) > time.time_ns() - YOUNG_NS:
        told.append(file_sha256(path))
    return told


def _label(key: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """What stands in the file beside the tensors. CRC-32 is for accidents, and as fast as memory."""
    check = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        check = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), check)
        check = zlib.crc32(tensor.contiguous().numpy().data, check)
    return {"content": "a case preprocessed by monai_anomaly", "key": key, "crc32": f"{check:08x}"}
