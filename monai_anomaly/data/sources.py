"""From files to what can be looked at: pictures, stacks of slices, volumes, frames in time; and what cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from .archive import unpack
from .cases import Case, Refusal, series_refusal
from .dicom import Header, check_stack, split_series, stack_affine
from .folders import user_cache
from .geometry import plane_of, spacing_of
from .names import slug, unique_names
from .paths import ShownPaths, walk, without_suffix
from .scan import Found, scan

__all__ = ["RefusedFilesError", "Source", "gather", "log_refused", "named", "one_source"]

logger = logging.getLogger(__name__)

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Something to look at, in one file or in several.

    Example:
        >>> Source(image="1.png", place="1", patient="", series="1", kind="picture", modality="", shape=(300, 200, 1)).plane
        ''
    """

    image: str | list[str]
    """One file, or the slice files of one stack in the order of their positions."""
    place: str
    """Path below the data folder: of a file without its suffix, or of the folder of a stack. Parts that identify a patient are masked."""
    patient: str
    """Pseudonym (the identifier where identifiers are kept); ``""`` of an image file or a NIfTI volume, which does not say."""
    series: str
    """Pseudonym; of an image file or a NIfTI volume its place. Not unique: a series may hold several stacks."""
    kind: Literal["picture", "stack", "volume", "frames"]
    """One 2-D image; slices in the patient, from single files or from one; frames that are time."""
    modality: str
    """``""`` if the file does not say."""
    shape: tuple[int, int, int]
    """Rows, columns, slices or frames."""
    spacing_mm: tuple[float, ...] = ()
    """Between rows, columns, slices; ``()`` without a place in the patient."""
    plane: str = ""


def gather(files: Iterable[Path], root: Path, keep_ids: bool = False) -> tuple[list[Source], list[Refusal], int]:
    """Tell pictures, series, volumes and other files apart, by content; side files are passed over, zip archives unpacked into the user's cache.

    Args:
        files: in the order wanted.
        root: the data folder, to which places are relative.
        keep_ids: show names, identifiers and paths as they are, instead of pseudonyms.

    Returns:
        What can be looked at, in the order of the first file of each; what was refused; and the number of files that these are together.

    Example:
        >>> gather([], Path("."))
        ([], [], 0)
    """
    places = ShownPaths(root, keep_ids)
    paths, in_archives = _unpacked(files, places)
    single: dict[int, Found] = {}
    refused: list[Found] = []
    series: dict[tuple[str, str], list[tuple[int, Header]]] = {}
    n_files = 0
    for number, found in enumerate(scan(paths)):
        n_files += 1
        places.learn(Path(found.path), found.identifiers)
        if found.refused:
            refused.append(found)
        elif found.header is not None and found.header.kind == "slice":
            series.setdefault((found.header.patient, found.header.series_key), []).append((number, found.header))
        else:
            single[number] = found
    sources = {number: _single(found, places) for number, found in single.items()}
    refusals = [Refusal(f"{places.show_unread(path)}{place}", why, n) for path, place, why, n in in_archives]
    refusals += [Refusal(places.show_unread(Path(found.path)), found.refused) for found in refused]
    for slices in series.values():
        for number, source in _stacks(slices, places):
            if isinstance(source, Source):
                sources[number] = source
            else:
                refusals.append(source)
    return [sources[number] for number in sorted(sources)], refusals, n_files + sum(n for *_, n in in_archives)


class RefusedFilesError(DataError):
    """A refusal that stands for several files."""

    def __init__(self, message: str, files: int):
        super().__init__(message)
        self.files = max(files, 1)


def one_source(image: Any, folder: Path) -> tuple[Source, int]:
    """The image of a case, and how many files it has.

    Args:
        image: an image file, a volume, the folder of one series, or a list of its files; a stranger's value.
        folder: to which paths are relative.

    Raises:
        DataError: it is no such value, it is not one image, volume or series, or any of its files is refused.

    Example:
        >>> one_source("flair.nii.gz", Path("study"))[0].kind  # doctest: +SKIP
        'volume'
    """
    if isinstance(image, str) and image:
        path = folder / image
        files = list(walk(path)) if path.is_dir() else [path]
    elif isinstance(image, list) and image and all(isinstance(name, str) and name for name in image):
        files = [folder / name for name in image]
    else:
        raise DataError('"image" is neither a path nor a list of paths; expected an image file, a volume, or the files of one series.')
    sources, refused, n_files = gather(files, folder)
    if refused:
        raise RefusedFilesError(
            f"{refused[0].where}: {refused[0].reason}" + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""), n_files
        )
    if len(sources) != 1:
        raise RefusedFilesError(
            f"The case holds {len(sources)} images or series in {n_files} files; expected one: make a case of each.", n_files
        )
    return sources[0], n_files


def _unpacked(files: Iterable[Path], places: ShownPaths) -> tuple[list[Path], list[tuple[Path, str, str, int]]]:
    """The files, those of archives included; and what was refused in archives: archive, place in it, reason, number of files."""
    paths: list[Path] = []
    refused: list[tuple[Path, str, str, int]] = []
    for path in files:
        if path.suffix.lower() != ".zip" or places.root.is_relative_to(user_cache()):  # an archive in an archive stays a file
            paths.append(path)
            continue
        try:
            folder, refused_here = unpack(path)
        except DataError as error:
            refused.append((path, "", str(error), 1))
            continue
        places.archives[folder] = path
        paths += walk(folder)
        refused += [(path, f"/{refusal.where}", refusal.reason, refusal.files) for refusal in refused_here]
    return paths, refused


def _single(found: Found, places: ShownPaths) -> Source:
    """A file that is a source of its own."""
    place = places.show(without_suffix(Path(found.path)))
    if found.picture is not None:
        return Source(found.path, place, "", place, "picture", "", (*found.picture, 1))
    grid = found.grid
    if grid is None:
        raise DataError(f"{place} has neither a size nor a place; expected one of them.")
    spacing, plane = (spacing_of(grid.affine), plane_of(grid.affine)) if grid.in_patient else ((), "")
    header = found.header
    if header is None:
        return Source(found.path, place, "", place, "volume", "", grid.shape, spacing, plane)
    kind: Literal["picture", "volume", "frames"] = (
        "picture" if header.kind == "picture" else "frames" if header.kind == "frames" else "volume"
    )
    return Source(found.path, place, places.patient(header), places.series(header), kind, header.modality, grid.shape, spacing, plane)


def _stacks(slices: Sequence[tuple[int, Header]], places: ShownPaths) -> Iterable[tuple[int, Source | Refusal]]:
    """The stacks of one series, each with the number of its first file, or why there is none."""
    first = slices[0][1]
    place = places.show(Path(first.path).parent)
    number_of = {header.path: number for number, header in slices}
    name = places.series(first)
    modalities = sorted({header.modality for _, header in slices})
    try:
        if len(modalities) > 1:
            raise DataError(
                f"The {len(slices)} slices of one series are of modalities {', '.join(modalities)}; expected one: export the series again."
            )
        stacks = split_series([header.slice for _, header in slices if header.slice is not None])
    except DataError as error:
        yield slices[0][0], series_refusal(name, place, str(error), len(slices))
        return
    for stack in stacks:
        number = min(number_of[one.path] for one in stack)
        try:
            check_stack(stack)
        except DataError as error:
            yield number, series_refusal(name, place, str(error), len(stack))
            continue
        affine = stack_affine(stack)
        yield number, Source(
            [one.path for one in stack], place, places.patient(first), name, "stack", first.modality,
            (*stack[0].shape, len(stack)), spacing_of(affine), plane_of(affine),
        )  # fmt: skip


def named(entries: Iterable[tuple[Source, Case]]) -> list[Case]:
    """Cases with unique series names, and a patient each: the one that the case or the source names, else the image is a patient of its own.

    Args:
        entries: sources, and what is known of them.

    Example:
        >>> picture = Source(image="1.png", place="1", patient="", series="1", kind="picture", modality="", shape=(300, 200, 1))
        >>> [case["patient"] for case in named([(picture, {}), (picture, {}), (picture, {"patient": "Ann"})])]
        ['1', '1-2', 'Ann']
    """
    pairs = list(entries)
    names = unique_names(slug(case.get("series", source.series)) for source, case in pairs)
    patients = [case.get("patient") or source.patient for source, case in pairs]
    return [
        {"image": source.image, **case, "patient": slug(patient) if patient else name, "series": name}
        for (source, case), patient, name in zip(pairs, patients, names, strict=True)
    ]


def log_refused(refused: Sequence[Refusal]) -> None:
    """One warning for each reason, with the places it concerns; all of them stand in the run record."""
    by_reason: dict[str, list[Refusal]] = {}
    for refusal in refused:
        by_reason.setdefault(refusal.reason, []).append(refusal)
    for reason, refusals in by_reason.items():
        shown = ", ".join(refusal.where for refusal in refusals[:SHOWN]) + (", ..." if len(refusals) > SHOWN else "")
        logger.warning("Refused %d files (%s): %s", sum(refusal.files for refusal in refusals), shown, reason)
