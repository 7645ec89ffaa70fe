"""The study as a folder: who is in it, written whole or not at all, and found again.

Layout::

    head_ct_phantom/
        datalist.json                    MONAI's datalist: {"training": [...], "testing": [...]}
        series/PHANTOM-001-CT/CT-001.dcm ...
        masks/PHANTOM-037-CT.nii.gz      abnormal patients only
        study.json                       the marker, written last
"""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...errors import DataError, OptionError
from ..folders import publish, scratch_folder, user_cache
from .patient_files import write_mask, write_series
from .phantom import make_phantom

__all__ = ["builtin_study", "is_builtin_study", "write_study"]

logger = logging.getLogger(__name__)

GENERATOR = "monai_anomaly head CT phantom"
VERSION = "1"  # raise it whenever the files would come out differently: studies on disk are then written anew
FOLDER = "head_ct_phantom"
MARKER = "study.json"
PATIENTS: dict[tuple[str, str], int] = {
    ("training", "good"): 36,
    ("testing", "good"): 16,
    ("testing", "bleed"): 16,
    ("testing", "mass"): 12,
}
"""How many patients of which group stand in which part of the datalist."""


def write_study(folder: str | os.PathLike[str], *, seed: int = 0, progress: bool = True) -> Path:
    """Write the phantom study: 80 made-up patients, 8 axial CT slices each, some with bleeds or masses.

    It is written into a temporary folder beside ``folder`` and then renamed, so that a study on disk is a whole one.
    Equal seeds give equal bytes.

    Args:
        folder: where to write; it must not exist, be empty, or hold an earlier phantom study (which is then replaced).
        seed: decides everything in the study; 0 or more.
        progress: show a progress bar.

    Returns:
        ``folder`` as a path; the datalist is ``folder / "datalist.json"``.

    Raises:
        DataError: ``folder`` holds something else, or cannot be written.

    Example:
        >>> from monai_anomaly.data.study import write_study
        >>> folder = write_study("my_study", seed=1)  # doctest: +SKIP
    """
    folder = Path(folder).expanduser().absolute()
    if seed < 0:
        raise OptionError(f"The built-in study was asked for with seed {seed}; expected 0 or more: choose another seed.")
    try:
        _refuse_foreign(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder.parent, folder.name) as scratch:
            started = time.perf_counter()
            whole = scratch / "whole"
            _write(whole, seed, progress)
            publish(whole, folder, scratch, lambda there: _is_whole(there, seed), _refuse_foreign)
    except OSError as error:
        raise DataError(
            f"The built-in study could not be written to {folder} ({error.strerror or error}); expected about 100 MB of writable space: "
            "free some, or name another folder in the environment variable MONAI_DATA_DIRECTORY."
        ) from error
    logger.info("Wrote the built-in study (%d patients) to %s in %.1f s.", sum(PATIENTS.values()), folder, time.perf_counter() - started)
    return folder


def study_folder() -> Path:
    """Where the built-in study lies, or will lie: see :func:`builtin_study`."""
    root = os.environ.get("MONAI_DATA_DIRECTORY")
    return (Path(root).expanduser().absolute() if root else user_cache()) / FOLDER


def builtin_study() -> Path:
    """Give the folder of the built-in study (seed 0), written first if it is absent or from another version of the generator.

    It lies in ``head_ct_phantom`` under ``$MONAI_DATA_DIRECTORY`` if that is set, else under ``monai_anomaly`` in the user's
    cache folder (``$XDG_CACHE_HOME`` or ``~/.cache``). Two processes may ask at once.

    Raises:
        DataError: the folder holds something else, or cannot be written.

    Example:
        >>> from monai_anomaly.data.study import builtin_study
        >>> datalist = builtin_study() / "datalist.json"  # doctest: +SKIP
    """
    folder = study_folder()
    if _is_whole(folder, seed=0):
        logger.info("The built-in study is in %s.", folder)
        return folder
    logger.info("Writing the built-in study (synthetic head CT) to %s; this takes some seconds, once.", folder)
    return write_study(folder)


def is_builtin_study(folder: str | os.PathLike[str]) -> bool:
    """Whether ``folder`` is a study that :func:`write_study` wrote, of any version and seed.

    Example:
        >>> is_builtin_study("no/such/folder")
        False
    """
    return _marker(Path(folder)).get("generator") == GENERATOR


def _marker(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _expected(seed: int) -> dict[str, Any]:
    counts = {f"{part}/{group}": n for (part, group), n in PATIENTS.items()}
    return {"generator": GENERATOR, "version": VERSION, "seed": seed, "patients": counts, "synthetic": True}


def _is_whole(folder: Path, seed: int) -> bool:
    """Whether the study of this version and seed is there, with as many files as it should have."""
    found = _marker(folder)
    files = found.pop("files", None)
    return found == _expected(seed) and (folder / "datalist.json").is_file() and files == sum(1 for _ in folder.glob("*/**/*.*"))


def _write(folder: Path, seed: int, progress: bool) -> None:
    """Write series, masks, datalist and, at the end, the marker."""
    plan = [(part, group, turn) for (part, group), n in PATIENTS.items() for turn in range(n)]
    order = np.random.default_rng([seed]).permutation(len(plan))  # so that a patient's number says nothing about the group
    people = [(int(number) + 1, *entry) for number, entry in zip(order, plan, strict=True)]

    def one(person: tuple[int, str, str, int]) -> dict[str, Any]:
        number, _, group, turn = person
        patient = f"PHANTOM-{number:03d}"
        series = f"{patient}-CT"
        phantom = make_phantom(seed, number, group, turn)
        write_series(folder / "series" / series, phantom, patient=patient, entropy=[VERSION, str(seed), patient])
        case: dict[str, Any] = {"image": f"series/{series}", "patient": patient, "series": series, "label": int(group != "good")}
        if group != "good":
            case["mask"] = f"masks/{series}.nii.gz"
            write_mask(folder / case["mask"], phantom)
        return {**case, "group": group}

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # NumPy and SciPy let go of the interpreter lock
        cases = list(tqdm(pool.map(one, people), total=len(people), desc="built-in study", unit="patient", disable=not progress))
    datalist: dict[str, list[dict[str, Any]]] = {"training": [], "testing": []}
    for (_, part, _, _), case in sorted(zip(people, cases, strict=True), key=lambda pair: pair[0][0]):
        datalist[part].append(case)
    (folder / "datalist.json").write_text(json.dumps(datalist, indent=2) + "\n", encoding="utf-8")
    files = sum(1 for _ in folder.glob("*/**/*.*"))
    (folder / MARKER).write_text(json.dumps({**_expected(seed), "files": files}, indent=2) + "\n", encoding="utf-8")


def _refuse_foreign(folder: Path) -> None:
    """Raise if ``folder`` holds anything but an earlier study; one that vanishes while it is looked at is another process's old study."""
    with suppress(FileNotFoundError):
        names = os.listdir(folder) if folder.is_dir() else [folder.name] if folder.exists() else []
        text = (folder / MARKER).read_text(encoding="utf-8", errors="replace") if MARKER in names and folder.is_dir() else ""
        if names and GENERATOR not in text:
            raise DataError(
                f"{folder} already holds something that is not a built-in study; expected a free place, or an earlier study: "
                "move it away, or name another folder (environment variable MONAI_DATA_DIRECTORY)."
            )
