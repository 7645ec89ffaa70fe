"""Find the cases of a data set: a datalist, the usual anomaly layout, or a plain folder of images and series."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

from ..errors import DataError
from .archive import unpack
from .cases import Case, CaseList, Refusal, series_refusal
from .datalist import read_datalist
from .formats import file_format, is_side_file
from .paths import HIDDEN, relative, walk, without_suffix
from .sources import Source, gather, log_refused, named, one_source

__all__ = ["find_case", "find_cases", "find_sources"]

logger = logging.getLogger(__name__)

NORMAL = "good"
EXPECTED = (
    "expected image files (PNG, JPEG, BMP, TIFF), NIfTI volumes or DICOM, in train/good, test/good and test/<class>, in one folder or zip archive, "
    "or named by a datalist.json"
)


def find_cases(dataset_dir: str | os.PathLike[str]) -> CaseList:
    """Find the cases of a data set.

    * A MONAI datalist JSON, or a folder that holds ``datalist.json``: see :func:`monai_anomaly.data.read_datalist`.
    * A folder with ``train/`` or ``test/``: ``train/good`` and ``test/good`` are normal, any other ``test/<class>`` abnormal. The mask of
      ``test/<class>/<stem>.*`` is ``ground_truth/<class>/<stem>_mask.*`` or ``<stem>.*``; of a series in ``test/<class>/<folder>`` a NIfTI file
      ``<folder>_mask.nii.gz`` or ``<folder>.nii.gz``.
    * Any other folder, or the ``DICOMDIR`` in it: everything below it is to be scored (split ``"test"``, no label).
    * A zip archive: unpacked into the user's cache, then as the folder in it; layout and datalist may lie one folder deeper. Archives in a folder are
      unpacked likewise.

    What a file is, is told by its content; see :func:`monai_anomaly.data.sources.gather`. DICOM files are grouped by series and stack whatever their names
    and folders; pseudonyms come from hashes of their identifiers, and parts of paths that name a patient are masked. Each image file or NIfTI volume is a
    patient of its own, called after its path. Files that cannot be used are refused with a reason and the rest goes on; masks and side files (tables,
    notes, ``DICOMDIR``, hidden files) are not counted.

    Args:
        dataset_dir: folder, zip archive or JSON file.

    Raises:
        DataError: no such folder, nothing usable in it, or abnormal cases among those to train on.

    Example:
        >>> cases = find_cases("head_ct")  # doctest: +SKIP
        >>> len(cases.select(split="train", label=0))  # doctest: +SKIP
        60
    """
    root, refused_before = _root(Path(dataset_dir).expanduser().absolute())
    if root.is_file():
        found = read_datalist(root)
    elif (root / "datalist.json").is_file():
        found = read_datalist(root / "datalist.json")
    elif _has_layout(root):
        found = _layout(root)
    else:
        sources, refused, n_files = gather(walk(root), root)
        found = CaseList(tuple(named((source, {"split": "test"}) for source in sources)), tuple(refused), n_files, root)
    found = replace(found, refused=(*refused_before, *found.refused), found=found.found + sum(refusal.files for refusal in refused_before))
    refused_files = sum(refusal.files for refusal in found.refused)
    log_refused(found.refused)
    logger.info(
        "Found %d files in %s: %d read as %d cases (%d train, %d test), %d refused.", found.found, found.root, found.found - refused_files,
        len(found.cases), len(found.select(split="train")), len(found.select(split="test")), refused_files,
    )  # fmt: skip
    if not found.cases:
        why = f"; the first of {refused_files} refused: {found.refused[0].where}: {found.refused[0].reason}" if found.refused else ""
        raise DataError(f"There is nothing usable in {root} ({found.found} files found{why}); {EXPECTED}.")
    return found


def find_case(image: str | os.PathLike[str]) -> CaseList:
    """The one image, volume or series that is to be scored, as a list of cases with nothing else in it.

    Unlike in :func:`find_cases` nothing is left out: a file that cannot be used, and is not a side file, refuses the whole.

    Args:
        image: an image file, a volume, or the folder of one series.

    Raises:
        DataError: there is no such file or folder, it is not one image or series, or a file cannot be used.

    Example:
        >>> find_case("export/series_7").cases[0]["series"]  # doctest: +SKIP
        's-6b86b273ff34'
    """
    path = Path(image).expanduser().absolute()
    if not path.exists():
        raise DataError(f"There is no file or folder {path}; expected an image file, a NIfTI volume, or the folder of one DICOM series.")
    source, n_files = one_source(path.name, path.parent)
    return CaseList(tuple(named([(source, {"split": "test"})])), (), n_files, path.parent)


def find_sources(dataset_dir: str | os.PathLike[str], keep_ids: bool = False) -> tuple[list[Source], list[Refusal], int, Path]:
    """Find everything that can be looked at below a folder, or in a zip archive, whatever the layout; headers only.

    Args:
        dataset_dir: a folder, the ``DICOMDIR`` in it, or a zip archive.
        keep_ids: show names, identifiers and paths as they are, instead of pseudonyms.

    Returns:
        Sources with unique series names, refusals, the number of files found, and the folder in which they lie.

    Raises:
        DataError: no such folder.

    Example:
        >>> sources, refused, n_files, root = find_sources("export")  # doctest: +SKIP
    """
    root, refused_before = _root(Path(dataset_dir).expanduser().absolute())
    if root.is_file():
        raise DataError(f"{root.name} is a file; {EXPECTED}: name the folder.")
    layout = _has_layout(root)
    files = (path for path in walk(root) if not (layout and path.is_relative_to(root / "ground_truth")))
    sources, refused, n_files = gather(files, root, keep_ids)
    names = [case["series"] for case in named((source, {}) for source in sources)]
    sources = [replace(source, series=name, patient=source.patient or name) for source, name in zip(sources, names, strict=True)]
    return sources, [*refused_before, *refused], n_files + sum(refusal.files for refusal in refused_before), root


def _root(path: Path) -> tuple[Path, list[Refusal]]:
    """The folder meant, and what was refused while unpacking it; a datalist stays a file."""
    if path.is_dir():
        return path, []
    if not path.is_file():
        raise DataError(f"There is no folder or datalist {path}; {EXPECTED}: check the path.")
    if file_format(path) == "zip":
        folder, refused = unpack(path)
        return _packed(folder), refused
    if path.name.upper().startswith("DICOMDIR"):
        return path.parent, []  # the tree is walked; the paths written in the file are never followed
    return path, []


def _packed(folder: Path) -> Path:
    """The folder that was packed: ``zip -r scans.zip scans`` puts layout and datalist one folder deeper. Where neither is found, names stay as they are."""
    inner = folder
    while not (_has_layout(inner) or (inner / "datalist.json").is_file()):
        names = [name for name in os.listdir(inner) if not name.startswith(HIDDEN)]
        if len(names) != 1 or not (inner / names[0]).is_dir():
            return folder
        inner = inner / names[0]
    return inner


def _has_layout(root: Path) -> bool:
    return (root / "train").is_dir() or (root / "test").is_dir()


def _layout(root: Path) -> CaseList:
    leaves: dict[tuple[str, str], list[Path]] = {}
    masks: dict[str, Path] = {}
    outside: list[Path] = []
    for path in walk(root):
        parts = path.relative_to(root).parts
        if parts[0] == "ground_truth":
            if not is_side_file(path):
                masks[without_suffix(path.relative_to(root / "ground_truth")).as_posix()] = path
        elif parts[0] in ("train", "test") and len(parts) > 2:
            leaves.setdefault((parts[0], parts[1]), []).append(path)
        else:
            outside.append(path)
    entries: list[tuple[Source, Case]] = []
    refused: list[Refusal] = []
    n_files = 0
    for (split, group), files in sorted(leaves.items()):
        sources, refused_here, n_here = gather(files, root)
        if split == "train" and group != NORMAL and n_here:
            raise DataError(
                f"{root / 'train'} holds {n_here} files in {group}/; expected train/{NORMAL} only, because a detector is trained on normal scans: "
                f"move them to test/{group}."
            )
        refused += refused_here
        n_files += n_here
        for source in sources:
            case: Case = {"label": int(group != NORMAL), "split": "train" if split == "train" else "test", "group": group}
            mask = _mask_of(source, root / split, masks) if group != NORMAL else None
            if mask is not None:
                case["mask"] = str(mask)
            entries.append((source, case))
    sources, refused_here, n_here = gather(outside, root)
    wrong_place = f"The file lies outside train/{NORMAL}, test/{NORMAL} and test/<class>: move it there."
    refused += refused_here
    for source in sources:
        if isinstance(source.image, str):
            refused.append(Refusal(relative(Path(source.image), root), wrong_place))
        else:
            refused.append(series_refusal(source.series, source.place, wrong_place, len(source.image)))
    cases = named(entries)
    _report_masks(cases, masks)
    return CaseList(tuple(cases), tuple(refused), n_files + n_here, root)


def _mask_of(source: Source, split: Path, masks: dict[str, Path]) -> Path | None:
    """The mask at the same place: ``test/<class>/x`` -> ``ground_truth/<class>/x``; of a stack its folder counts."""
    path = without_suffix(Path(source.image)) if isinstance(source.image, str) else Path(source.image[0]).parent
    if not path.is_relative_to(split):
        return None
    place = path.relative_to(split).as_posix()
    return masks.get(f"{place}_mask") or masks.get(place)


def _report_masks(cases: list[Case], masks: dict[str, Path]) -> None:
    used = {case["mask"] for case in cases if "mask" in case}
    spare = sum(1 for key, path in masks.items() if str(path) not in used and not key.startswith(f"{NORMAL}/"))
    bare = sum(1 for case in cases if case.get("label") == 1 and "mask" not in case)
    if spare:
        logger.warning(
            "%d of %d masks fit no image; expected ground_truth/<class>/<stem>_mask.* or <stem>.*: check the names.", spare, len(masks)
        )
    if used and bare:
        logger.warning("%d abnormal cases have no mask in ground_truth/; they take no part in pixel metrics.", bare)
