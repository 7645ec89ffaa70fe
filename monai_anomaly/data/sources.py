"""From files to images: what each file is, which of them make up a series, which cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .cases import Refusal
from .dicom import SliceHeader, group_series, order_slices, read_header
from .formats import RASTER_FORMATS, file_format, is_side_file
from .raster import check_raster

__all__ = ["Source", "gather", "log_refused", "relative", "without_suffix"]

logger = logging.getLogger(__name__)

SHOWN = 3


class Source(NamedTuple):
    """One image file, or one regular series."""

    image: str | list[str]
    place: str
    """Path below the data folder: of the image file without its suffix, or of the folder of the series."""
    patient: str
    series: str
    """Pseudonyms; of a DICOM series from its identifiers, of an image file its place."""


def gather(files: Iterable[Path], root: Path) -> tuple[list[Source], list[Refusal], int]:
    """Tell images, DICOM series and other files apart, by content; side files are passed over.

    Args:
        files: in the order wanted.
        root: the data folder, to which places are relative.

    Returns:
        Images and series in the order of their first file, what was refused, and the number of files that these are together.

    Example:
        >>> gather([], Path("."))
        ([], [], 0)
    """
    sources: dict[int, Source] = {}
    headers: list[SliceHeader] = []
    numbers: dict[str, int] = {}
    refused: list[Refusal] = []
    n_files = 0
    for number, path in enumerate(files):
        try:
            form = file_format(path)
            if form == "" and is_side_file(path):
                continue
            n_files += 1
        except DataError as error:
            n_files += 1
            refused.append(Refusal(relative(path, root), str(error)))
            continue
        try:
            if form in RASTER_FORMATS:
                check_raster(path)
                place = relative(without_suffix(path), root)
                sources[number] = Source(str(path), place, place, place)
            elif form == "DICOM":
                if path.name.upper().startswith("DICOMDIR"):
                    n_files -= 1
                    continue
                headers.append(read_header(path))
                numbers[str(path)] = number
            else:
                raise DataError(_not_here(form))
        except DataError as error:
            refused.append(Refusal(relative(path, root), str(error)))
    for series in group_series(headers):
        place = relative(Path(series[0].path).parent, root)
        try:
            ordered = order_slices(series)
        except DataError as error:
            refused.append(Refusal(f"series {series[0].series} in {place}", str(error), files=len(series)))
        else:
            sources[numbers[series[0].path]] = Source([header.path for header in ordered], place, series[0].patient, series[0].series)
    return [sources[number] for number in sorted(sources)], refused, n_files


def log_refused(refused: Sequence[Refusal]) -> None:
    """One warning for each reason, with the places it concerns; all of them stand in the run record."""
    by_reason: dict[str, list[Refusal]] = {}
    for refusal in refused:
        by_reason.setdefault(refusal.reason, []).append(refusal)
    for reason, refusals in by_reason.items():
        shown = ", ".join(refusal.where for refusal in refusals[:SHOWN]) + (", ..." if len(refusals) > SHOWN else "")
        logger.warning("Refused %d files (%s): %s", sum(refusal.files for refusal in refusals), shown, reason)


def relative(path: Path, root: Path) -> str:
    """A path as it is shown: below ``root`` where it lies there.

    Example:
        >>> relative(Path("data/test/1.png"), Path("data"))
        'test/1.png'
    """
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def without_suffix(path: Path) -> Path:
    """The path without its suffix, ``.nii.gz`` being one.

    Example:
        >>> without_suffix(Path("a/b.nii.gz")).as_posix()
        'a/b'
    """
    return path.with_name(path.name[:-7]) if path.name.lower().endswith(".nii.gz") and len(path.name) > 7 else path.with_suffix("")


def _not_here(form: str) -> str:
    if form == "DICOM without preamble":
        return "The file seems to be DICOM without its 128-byte preamble; expected a standard DICOM file: export it again."
    if form in ("NIfTI", "gzip"):
        return "The file seems to be a NIfTI volume; expected image files or DICOM series in a folder: name volumes in a datalist."
    return "The content is none of PNG, JPEG, BMP, TIFF and DICOM: convert it or leave it out."
