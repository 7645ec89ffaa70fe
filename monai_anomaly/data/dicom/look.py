"""What a DICOM file is, for a first look through a folder."""

from __future__ import annotations

from typing import NamedTuple

from ...errors import DataError
from ..geometry import Grid
from .elements import identifiers
from .grid import grid_of_file
from .header import TAGS, Header, parse_header
from .open import dicom_door, open_dicom

__all__ = ["Look", "look"]


class Look(NamedTuple):
    """What a file shows by its header alone."""

    header: Header | None
    """``None`` if it is refused."""
    grid: Grid | None
    """Of anything but a slice, whose grid is that of its stack."""
    refused: str
    """Why, or ``""``."""
    identifiers: tuple[str, ...]
    """Names, identifiers and dates in the header, to keep them out of what is shown."""


def look(path: str) -> Look:
    """Tell what a DICOM file is; nothing is decoded, nothing raised.

    Args:
        path: the file.

    Example:
        >>> look("absent.dcm").refused
        'The DICOM file cannot be read (No such file or directory); expected a whole DICOM file: export it again.'
    """
    known: tuple[str, ...] = ()
    try:
        with dicom_door("header"):
            opened = open_dicom(path, TAGS)
            known = tuple(identifiers(opened.dataset))
            header = parse_header(opened.dataset, path, opened.has_pixels, opened.pixel_bytes)
            return Look(header, None if header.kind == "slice" else grid_of_file(opened.dataset, header), "", known)
    except DataError as error:
        return Look(None, None, str(error), known)
