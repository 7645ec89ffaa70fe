"""MONAI's datalist JSON: read as a stranger's file, written whole or not at all."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, reason
from ..files import write_json
from .cases import Case, CaseList, Refusal
from .formats import file_format
from .names import slug
from .sources import RefusedFilesError, Source, named, one_source

__all__ = ["MAX_BYTES", "read_datalist", "write_datalist"]

logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 2**20
"""Largest datalist that is read (64 MiB, about 300,000 cases)."""

SECTIONS: dict[str, Literal["train", "test"]] = {"training": "train", "testing": "test", "test": "test"}
EXAMPLE = '{"training": [{"image": "1.png", "label": 0}], "testing": [...]}'


def read_datalist(path: str | os.PathLike[str]) -> CaseList:
    """Read a MONAI datalist: ``{"training": [case, ...], "testing": [case, ...]}`` (or ``"test"``).

    A case is an object with ``image`` (an image file, a NIfTI volume, the folder of one DICOM series, or a list of its files) and, optional, ``patient``,
    ``series``, ``label`` (0 or 1), ``mask``, ``group``; or just the path of its image. Paths may be relative to the datalist's folder. Names are made
    safe for files; missing ones come from the path or from hashes of the DICOM identifiers. Cases of ``training`` are normal, also without a label; one
    with a mask and no label is normal where the mask marks nothing (``drop_marked`` of :class:`~monai_anomaly.data.SliceDataset`).

    Args:
        path: the JSON file.

    Returns:
        The cases; one that cannot be used is refused with a reason, and the rest goes on.

    Raises:
        DataError: the file cannot be read, is no such JSON, or has an abnormal case in ``training``.

    Example:
        >>> read_datalist("study/datalist.json").select(split="train")  # doctest: +SKIP
    """
    path = Path(path).expanduser().absolute()
    content = _load(path)
    known: list[tuple[Source, Case]] = []
    refused: list[Refusal] = []
    found = 0
    for section, entries in content.items():
        if section not in SECTIONS:
            if isinstance(entries, list) and entries and isinstance(entries[0], dict) and "image" in entries[0]:
                logger.warning(
                    "The section %r of the datalist is left out (%d entries): only training and testing are used.",
                    section[:40],
                    len(entries),
                )
            continue
        if not isinstance(entries, list):
            raise DataError(f"The section {section!r} of {path} is a {type(entries).__name__}; expected a list of cases, as in {EXAMPLE}.")
        for number, entry in enumerate(entries):
            where = f"{section}[{number}]"
            stop = False
            n_files = 1
            try:
                case = _checked(entry, SECTIONS[section])
                stop = case["split"] == "train" and case.get("label") == 1
                source, n_files = one_source(entry if isinstance(entry, str) else entry["image"], path.parent)
                _add_mask(case, entry, path.parent)
            except (DataError, OSError, ValueError) as error:  # ValueError: a path with a null byte
                n_files = error.files if isinstance(error, RefusedFilesError) else n_files
                refused.append(Refusal(where, str(error) if isinstance(error, DataError) else reason(error), n_files))
            else:
                known.append((source, case))
            found += n_files
            if stop:
                raise DataError(
                    f"{where} of {path} has label 1; expected normal cases only, because a detector learns from normal scans: move it to testing."
                )
    _check_names(known, path)
    return CaseList(tuple(named(known)), tuple(refused), found, path.parent)


def write_datalist(path: str | os.PathLike[str], cases: Iterable[Case]) -> Path:
    """Write cases as a MONAI datalist; paths below its folder become relative to it. The file appears whole or not at all.

    Args:
        path: where to.
        cases: those of split ``"train"`` go to ``training``, all others to ``testing``.

    Returns:
        The path.

    Raises:
        DataError: it cannot be written.

    Example:
        >>> write_datalist("datalist.json", find_cases("head_ct").cases)  # doctest: +SKIP
    """
    path = Path(path).expanduser().absolute()

    def short(name: str) -> str:
        full = Path(name).absolute()
        return full.relative_to(path.parent).as_posix() if full.is_relative_to(path.parent) else str(full)

    sections: dict[str, list[dict[str, Any]]] = {"training": [], "testing": []}
    for case in cases:
        image = case["image"]
        entry: dict[str, Any] = {**case, "image": short(image) if isinstance(image, str) else [short(name) for name in image]}
        if "mask" in case:
            entry["mask"] = short(case["mask"])
        sections["training" if entry.pop("split", "test") == "train" else "testing"].append(entry)
    return write_json(path, sections)


def _load(path: Path) -> dict[str, Any]:
    expected = f"expected a MONAI datalist such as {EXAMPLE}"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise DataError(f"The datalist {path} is larger than {MAX_BYTES // 2**20} MiB; {expected}: split it.")
        content = json.loads(raw.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"The datalist {path} cannot be read ({reason(error)}); {expected}.") from error
    if not isinstance(content, dict) or not any(section in content for section in SECTIONS):
        raise DataError(f"The datalist {path} has no section 'training' or 'testing'; {expected}.")
    return content


def _checked(entry: Any, split: Literal["train", "test"]) -> Case:
    """The plain values of an entry; types are checked as strictly as JSON allows."""
    case: Case = {"split": split}
    if isinstance(entry, dict):
        if "image" not in entry:
            raise DataError('The case has no "image"; expected the path of an image file, a volume or a series.')
        for key in ("patient", "series", "group"):
            value = entry.get(key)
            if value is not None:
                if not isinstance(value, str) or not value.strip():
                    raise DataError(f'"{key}" is a {type(value).__name__}; expected a text that is not empty.')
                case[key] = value
        label = entry.get("label")
        if label is not None:
            if isinstance(label, bool) or label not in (0, 1) or not isinstance(label, int):
                raise DataError('"label" is neither 0 (normal) nor 1 (abnormal); expected one of them, or no label.')
            case["label"] = label
        if entry.get("split", split) != split:
            raise DataError('"split" contradicts the section; expected it to agree, or to be left out.')
    elif not isinstance(entry, str):
        raise DataError(f"The case is a {type(entry).__name__}; expected an object, or the path of an image.")
    if split == "train" and not (isinstance(entry, dict) and entry.get("mask") is not None):
        case.setdefault("label", 0)
    return case


def _add_mask(case: Case, entry: Any, folder: Path) -> None:
    mask = entry.get("mask") if isinstance(entry, dict) else None
    if mask is None:
        return
    if not isinstance(mask, str) or not mask:
        raise DataError(f'"mask" is a {type(mask).__name__}; expected a path.')
    try:
        file_format(folder / mask)
    except DataError as error:
        raise DataError(f"The mask {mask!r}: {error}") from error
    case["mask"] = str(folder / mask)


def _check_names(known: list[tuple[Source, Case]], path: Path) -> None:
    given = [case["series"] for _, case in known if "series" in case]
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise DataError(
            f"The series name {slug(twice)} occurs {given.count(twice)} times in {path}; expected a name of its own for each case."
        )
