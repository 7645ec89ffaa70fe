"""Open a DICOM file that comes from a stranger: with or without preamble, deflated or not, in bounded memory."""

from __future__ import annotations

import io
import logging
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ...errors import DataError, reason

__all__ = ["Opened", "dicom_door", "open_dicom"]

# pydicom warns of every odd value and shows it; values may be names. What matters is checked, and refused in our own words.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")

MAX_INFLATED = 256 * 2**20
"""Largest deflated data set that is read, in bytes: deflation hides a gigabyte of zeros in a megabyte."""

MAX_READS = 500_000
"""Reads of one file, two or three for each element. An enhanced object of 4,000 frames needs as many; a sequence of empty items can hold millions."""
DEFLATED = DeflatedExplicitVRLittleEndian.encode()
LONG_VRS = frozenset({b"OB", b"OW", b"UN", b"OF", b"OD", b"OL", b"OV"})


@dataclass(frozen=True, slots=True)
class Opened:
    """A data set, and what is known about pixels that were not read."""

    dataset: Dataset
    has_pixels: bool
    pixel_bytes: int | None = None
    """Bytes of uncompressed pixels that are really in the file; ``None`` if they are compressed, or not looked at."""


class _DeflatedError(Exception):
    """Only a deflated data set is read in one piece; pydicom would inflate it whatever its size."""

    def __init__(self, start: int):
        super().__init__(start)
        self.start = start


class _Inflated(io.BytesIO):
    """Bytes with the name that pydicom asks of a file."""

    name = ""


class _Guarded(io.BufferedReader):
    """A stream that says when a data set is deflated, and when it has more elements than any image."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            raise _DeflatedError(self.tell())
        self.reads += 1
        if self.reads > MAX_READS:
            raise DataError(f"The file has more than {MAX_READS // 3:,} elements; expected an image: leave it out, or export it in parts.")
        return super().read(size)


@contextmanager
def dicom_door(what: str = "file") -> Iterator[None]:
    """Whatever pydicom makes of a broken file or an odd element, RecursionError and MemoryError included, comes out as our error.

    Args:
        what: is read.

    Raises:
        DataError: instead of any other.

    Example:
        >>> with dicom_door("header"):
        ...     raise KeyError("Rows")
        Traceback (most recent call last):
        monai_anomaly.errors.DataError: The DICOM header cannot be read ('Rows'); expected a whole DICOM file: export it again.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"The DICOM {what} cannot be read ({reason(error)}); expected a whole DICOM file: export it again.") from error


def open_dicom(path: str | os.PathLike[str], tags: Sequence[str] | None = None) -> Opened:
    """Read a DICOM file: whole, or only some elements and nothing of the pixels.

    A file without preamble is read as what its first element shows. The encoding of such a file is set, so that its pixels can be decoded.

    Args:
        path: the file.
        tags: keywords of the elements wanted, without the pixels; ``None`` reads everything.

    Raises:
        DataError: it cannot be read, or inflates to more than ``MAX_INFLATED``.

    Example:
        >>> open_dicom("slice.dcm", ["Modality"]).dataset.Modality  # doctest: +SKIP
        'CT'
    """
    with dicom_door():
        try:
            with _Guarded(io.FileIO(path)) as file:
                return _read(file, os.fstat(file.fileno()).st_size, tags)
        except _DeflatedError as found:
            content = _inflate(path, found.start)
            with _Guarded(_Inflated(content)) as file:  # type: ignore[arg-type]
                return _read(file, len(content), tags)


def _read(file: _Guarded, size: int, tags: Sequence[str] | None) -> Opened:
    head = file.peek(132)[:132]
    bare = head[128:132] != b"DICM"
    dataset = dcmread(file, force=bare, stop_before_pixels=tags is not None, specific_tags=None if tags is None else list(tags))
    if bare:
        _set_encoding(dataset)
    return Opened(dataset, "PixelData" in dataset) if tags is None else Opened(dataset, *_pixels_ahead(file, size, dataset))


def _inflate(path: str | os.PathLike[str], start: int) -> bytes:
    """The same file, not deflated from ``start`` on."""
    with open(path, "rb") as file:
        head, deflated = file.read(start), file.read()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(deflated, MAX_INFLATED + 1)
    if len(inflated) > MAX_INFLATED:
        raise DataError(
            f"The deflated data set holds more than {MAX_INFLATED // 2**20} MiB in {len(deflated):,} bytes; expected an ordinary image: "
            "export it again without deflation."
        )
    # As long as before, so that nothing moves: a UID ends at its first null.
    return head.replace(DEFLATED, ExplicitVRLittleEndian.encode().ljust(len(DEFLATED), b"\0")) + inflated


def _set_encoding(dataset: Dataset) -> None:
    if dataset.file_meta.get("TransferSyntaxUID") is None:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )


def _pixels_ahead(file: _Guarded, size: int, dataset: Dataset) -> tuple[bool, int | None]:
    """Whether the next element is PixelData, and how many bytes of it the file really has."""
    head = file.read(12)
    implicit, little = dataset.original_encoding
    order = "little" if little else "big"
    if head[:4] != (b"\xe0\x7f\x10\0" if little else b"\x7f\xe0\0\x10") or len(head) < 12:
        return False, None
    if implicit:
        length, start = int.from_bytes(head[4:8], order), 8  # type: ignore[arg-type]
    elif head[4:6] in LONG_VRS:
        length, start = int.from_bytes(head[8:12], order), 12  # type: ignore[arg-type]
    else:
        return True, None
    if length == 0xFFFFFFFF:
        return True, None
    there = size - file.tell() + 12 - start
    return True, min(length, there)
