"""Folders for pixels of patients, which nobody else on the machine can read."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import signal
import tempfile
from pathlib import Path
from types import FrameType

from ..errors import DataError

__all__ = ["private_folder", "use_private_temporary_files"]


def private_folder(path: Path, setting: str) -> Path:
    """Make a folder, if it is not there, which no other user can look into.

    Args:
        path: the folder.
        setting: the environment variable that names another.

    Raises:
        DataError: it cannot be made, or belongs to somebody else.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     oct(private_folder(Path(parent) / "cache", "MONAI_LABEL_SESSION_PATH").stat().st_mode & 0o777)
        '0o700'
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise DataError(
            f"The folder {path} cannot be made private ({error.strerror or error}); expected a folder of this user alone, because it holds patients' "
            f"images: name another with {setting}."
        ) from error
    return path


@functools.cache
def use_private_temporary_files() -> None:
    """What clients upload and what they are sent are pixels of patients: nobody else on the machine can read them, and they go with the server."""
    folder = tempfile.tempdir = tempfile.mkdtemp(prefix="anomaly-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    handler = signal.getsignal(signal.SIGTERM)

    def end(number: int, frame: FrameType | None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if callable(handler):  # the web server's, which finishes what it is at; what is registered with atexit never runs
            handler(number, frame)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    with contextlib.suppress(ValueError):  # not in the main thread: a test client's
        signal.signal(signal.SIGTERM, end)
