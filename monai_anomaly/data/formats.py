"""Which format a file has, told by its content: names lie."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal, NoReturn

from ..errors import DataError, reason

__all__ = ["DICOM_FORMATS", "RASTER_FORMATS", "Format", "file_format", "is_side_file"]

Format = Literal["PNG", "JPEG", "BMP", "TIFF", "DICOM", "DICOM without preamble", "NIfTI", "gzip", "zip", ""]
RASTER_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
DICOM_FORMATS = ("DICOM", "DICOM without preamble")

SIDE_SUFFIXES = frozenset(
    {
        ".csv", ".db", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".json", ".jsonl", ".log", ".md", ".pdf", ".py", ".rst", ".toml", ".tsv", ".txt",
        ".xls", ".xlsx", ".xml", ".yaml", ".yml",
    }
)  # fmt: skip
SIDE_NAMES = frozenset({"dicomdir", "license", "licence", "readme", "thumbs.db", "desktop.ini"})


def file_format(path: str | os.PathLike[str]) -> Format:
    """The format of a file by its first bytes; ``""`` if it is none of those known here.

    Raises:
        DataError: the file cannot be opened, or holds no bytes.

    Example:
        >>> file_format(__file__)
        ''
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            _refuse_folder(path)
        if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
            raise DataError("It is no regular file but a pipe or device; expected an image file: leave it out.")
        with open(path, "rb") as file:
            head = file.read(352)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise DataError(
            f"The file cannot be opened ({reason(error)}); expected a readable file: check that it is there and its permissions."
        ) from error
    if not head:
        raise DataError("The file holds 0 bytes; expected an image: copy it again or remove it.")
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[128:132] == b"DICM":  # asked before TIFF, whose mark a DICOM preamble may hold
        return "DICOM"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return "BMP"
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0":
        return "NIfTI"
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if (head[:2] in (b"\x02\0", b"\x08\0") and head[4:6].isalpha()) or head[:4] in (b"\x08\0\0\0", b"\x08\0\x05\0", b"\x08\0\x08\0"):
        return "DICOM without preamble"
    return ""


def _refuse_folder(path: str | os.PathLike[str]) -> NoReturn:
    """A folder that is locked stands for itself; elsewhere it was named by mistake."""
    try:
        os.scandir(path).close()
    except OSError as error:
        raise DataError("The folder cannot be listed; expected to be allowed to read it: check its permissions.") from error
    raise DataError("A folder was found where a file is expected: name the file.")


def is_side_file(path: Path) -> bool:
    """Whether a file that is no image may lie beside images without a word: tables, notes, a DICOM index.

    Example:
        >>> is_side_file(Path("labels.csv")), is_side_file(Path("scan.xyz"))
        (True, False)
    """
    return path.suffix.lower() in SIDE_SUFFIXES or path.name.lower() in SIDE_NAMES or path.name.upper().startswith("DICOMDIR")
