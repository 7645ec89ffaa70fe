"""Find the cases of a data set: a datalist, the usual anomaly layout, or a plain folder of images and series."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError
from .cases import Case, CaseList, Refusal, slug, unique_names
from .datalist import read_datalist
from .formats import is_side_file, walk
from .sources import Source, gather, log_refused, relative, without_suffix

__all__ = ["find_cases"]

logger = logging.getLogger(__name__)

NORMAL = "good"
EXPECTED = "expected image files (PNG, JPEG, BMP, TIFF) or DICOM series, in train/good, test/good and test/<class>, in one folder, or named by a datalist.json"


def find_cases(dataset_dir: str | os.PathLike[str]) -> CaseList:
    """Find the cases of a data set.

    * A MONAI datalist JSON, or a folder that holds ``datalist.json``: see :func:`monai_anomaly.data.read_datalist`.
    * A folder with ``train/`` or ``test/``: ``train/good`` and ``test/good`` are normal, any other ``test/<class>`` abnormal. The mask of
      ``test/<class>/<stem>.*`` is ``ground_truth/<class>/<stem>_mask.*`` or ``<stem>.*``; of a series in ``test/<class>/<folder>`` a NIfTI file
      ``<folder>_mask.nii.gz`` or ``<folder>.nii.gz``.
    * Any other folder: everything below it is to be scored (split ``"test"``, no label).

    What a file is, is told by its content. DICOM files are grouped by series whatever their names; pseudonyms come from hashes of their identifiers. Each
    image file is a patient of its own, called after its path. Files that cannot be used are refused with a reason and the rest goes on; masks and side
    files (tables, notes, ``DICOMDIR``, hidden files) are not counted.

    Args:
        dataset_dir: folder or JSON file.

    Raises:
        DataError: no such folder, nothing usable in it, or abnormal cases among those to train on.

    Example:
        >>> cases = find_cases("head_ct")  # doctest: +SKIP
        >>> len(cases.select(split="train", label=0))  # doctest: +SKIP
        60
    """
    root = Path(dataset_dir).expanduser().absolute()
    if root.is_file():
        found = read_datalist(root)
    elif not root.is_dir():
        raise DataError(f"There is no folder or datalist {root}; {EXPECTED}: check the path.")
    elif (root / "datalist.json").is_file():
        found = read_datalist(root / "datalist.json")
    elif (root / "train").is_dir() or (root / "test").is_dir():
        found = _layout(root)
    else:
        sources, refused, n_files = gather(walk(root), root)
        found = CaseList(tuple(_named((source, {"split": "test"}) for source in sources)), tuple(refused), n_files, root)
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
            mask = _mask_of(source, f"{split}/{group}/", masks) if group != NORMAL else None
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
            refused.append(Refusal(f"series {source.series} in {source.place}", wrong_place, len(source.image)))
    cases = _named(entries)
    _report_masks(cases, masks)
    return CaseList(tuple(cases), tuple(refused), n_files + n_here, root)


def _mask_of(source: Source, prefix: str, masks: dict[str, Path]) -> Path | None:
    """The mask at the same place: ``test/<class>/x`` -> ``ground_truth/<class>/x``."""
    if not source.place.startswith(prefix):
        return None
    place = source.place.split("/", 1)[1]
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


def _named(entries: Iterable[tuple[Source, Case]]) -> list[Case]:
    """Cases with unique series names; an image file's patient is called like it."""
    pairs = list(entries)
    names = unique_names(slug(source.series) for source, _ in pairs)
    return [
        {"image": source.image, "patient": name if isinstance(source.image, str) else source.patient, "series": name, **known}
        for (source, known), name in zip(pairs, names, strict=True)
    ]
