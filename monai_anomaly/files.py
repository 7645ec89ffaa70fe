"""Files that are whole or absent: what a killed run leaves behind can be trusted."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import DataError, OptionError

__all__ = ["file_sha256", "file_stamp", "refuse_existing", "safe_name", "write_csv", "write_json", "write_whole"]

logger = logging.getLogger(__name__)

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def write_whole(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> Path:
    """Write a file in one step: into a temporary file of the same folder, synced to disk, then renamed over ``path``.

    A run killed at any moment leaves the old file or the new one, never half of one (at worst a ``.part`` file beside it). Folders are made as needed.

    Args:
        path: the file; one that exists is replaced.
        content: the bytes, or a function that writes them to the open binary file it is given.

    Returns:
        The path.

    Raises:
        DataError: the folder or file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(Path(folder) / "new" / "a.bin", b"abc").read_bytes()
        b'abc'
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are readable by their owner only, whatever the umask, and would stay so.
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(descriptor, "w+b") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        # torch.save ends in an error of its own when the file's write fails in the middle, with the file's behind it.
        failed = next((cause for cause in (error, error.__cause__, error.__context__) if isinstance(cause, OSError)), None)
        if failed is not None:
            raise DataError(
                f"{path} could not be written ({failed.strerror or failed}); expected a folder that may be written to, with free space: choose another folder."
            ) from error
        raise
    return path


def refuse_existing(path: str | Path, force: bool = False) -> None:
    """Refuse to replace a file, before any work is done for the new one.

    Args:
        path: where the new file is to go; a link that leads nowhere is there, too.
        force: whether the user said that it may be replaced.

    Raises:
        OptionError: it exists, and ``force`` is false.

    Example:
        >>> refuse_existing("no/such/file.zip")
    """
    if os.path.lexists(path) and not force:
        raise OptionError(f"{path} exists; expected a new file: choose another name, or add --force to replace it.")


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits, read block by block.

    Raises:
        OSError: it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file_sha256(write_whole(Path(folder) / "a.bin", b"abc"))[:8]
        'ba7816bf'
    """
    digest = hashlib.sha256()  # Python 3.10 has no hashlib.file_digest
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def file_stamp(path: str | Path) -> tuple[int, int, int]:
    """What changes when a file is written anew or replaced: when that was, its size, and which file it is.

    Raises:
        OSError: there is none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = file_stamp(write_whole(Path(folder) / "a.bin", b"abc"))
        ...     first == file_stamp(write_whole(Path(folder) / "a.bin", b"abcd"))
        False
    """
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def safe_name(text: str, max_length: int = 100) -> str:
    """Turn any text into a file name of letters, digits, ``.``, ``_`` and ``-`` that every file system accepts.

    Text that is a safe name already stays as it is. In other text each foreign character becomes ``_`` and ``__`` with eight hexadecimal digits of its SHA-256
    is appended, so that different texts keep different names.

    Args:
        text: any text.
        max_length: longest result, at least 16.

    Example:
        >>> safe_name("series-07"), safe_name("../a b")
        ('series-07', '_a_b__2c2c791a')
    """
    name = re.sub(r"[^A-Za-z0-9._-]", "_", text)
    kept = (
        name == text
        and 0 < len(name) <= max_length
        and name[0] not in ".-"
        and name[-1] != "."
        and not _RESERVED.fullmatch(name)
        and not re.search(r"__[0-9a-f]{8}$", name)
    )
    if kept:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    stem = name.lstrip(".-")
    stem = f"_{stem}" if _RESERVED.fullmatch(stem) else stem
    return f"{stem[: max(16, max_length) - 10]}__{digest}"


def write_json(path: str | Path, data: Any) -> Path:
    """Write strict JSON, whole, indented, UTF-8.

    JSON has no NaN and no infinity: they become ``null``, and a warning in the log names the entries. NumPy numbers and arrays, paths and tuples are
    turned into plain types.

    Args:
        path: the file.
        data: dictionaries, lists, strings, numbers, ``None``.

    Returns:
        The path.

    Raises:
        DataError: an entry of another type, or the file cannot be written.
    """
    lost: list[str] = []
    plain = _plain(data, "", lost)
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        logger.warning("%s: not a finite number, written as null: %s%s.", Path(path).name, ", ".join(lost[:5]), more)
    return write_whole(path, (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace"))


def _plain(value: Any, where: str, lost: list[str]) -> Any:
    """Plain JSON types of ``value``; the places of numbers that JSON cannot hold are added to ``lost``."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        lost.append(where or "the value")
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}" if where else str(key), lost) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, f"{where}[{index}]", lost) for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return Path(value).as_posix()
    raise DataError(f"{where or 'The value'} is a {type(value).__name__}, which JSON cannot hold; expected plain types: convert it first.")


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Path:
    r"""Write a table, whole, UTF-8, comma-separated, one header line.

    ``None`` becomes an empty cell, numbers are written in full. Text that a spreadsheet would run as a formula (first character ``=``, ``+``, ``-``, ``@``,
    tab or carriage return) gets a ``'`` in front; numbers stay numbers. Line ends within text become ``\n``.

    Args:
        path: the file.
        rows: all have the same keys.
        columns: names of the columns; default: the keys of the first row (a table without rows is then an empty file).

    Returns:
        The path.

    Raises:
        DataError: rows with different columns, or the file cannot be written.
    """
    columns = list(columns or (rows[0] if rows else ()))
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    if columns:
        table.writerow([_harmless(column) for column in columns])
    for number, row in enumerate(rows, start=1):
        if set(row) != set(columns):
            raise DataError(f"Row {number} of {Path(path).name} has the columns {', '.join(map(str, row))}; expected {', '.join(columns)}.")
        table.writerow([_harmless(row[column]) for column in columns])
    return write_whole(path, text.getvalue().encode("utf-8", "replace"))


def _harmless(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    risky = cell.lstrip()[:1] in tuple("=+-@") or cell[:1] in ("\t", "\r")
    # A lone carriage return is a line end for readers of CSV, and Python's writer does not quote it.
    text = cell.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if risky else text
