"""What tests ask of a folder: what is read, what is refused, and that the counts add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_anomaly.data import CaseList, CaseReader, find_cases
from monai_anomaly.data.cases import case_files
from monai_anomaly.errors import AnomalyError

GOOD = "zz good neighbour.png"


def read(image: str | list[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Array and metadata of a case's image."""
    reader = CaseReader()
    return reader.get_data(reader.read(image))


def adds_up(found: CaseList) -> bool:
    """Files found = files in cases + files refused, and no file stands in two cases."""
    files = [name for case in found.cases for name in case_files(case)]
    return found.found == len(files) + sum(refusal.files for refusal in found.refused) and len(set(files)) == len(files)


def write_good(folder: Path) -> Path:
    """A picture that must be read whatever lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(folder / GOOD)
    return folder


def verdicts(folder: Path) -> tuple[dict[str, tuple[np.ndarray, dict[str, Any]]], list[str]]:
    """What a folder with a good neighbour gives: arrays and metadata by series name, and every reason, of finding or of reading.

    Anything but an ``AnomalyError`` escapes. The neighbour must be found and read, and is left out of the result.
    """
    found = find_cases(folder)
    assert adds_up(found), (found.found, found.cases, found.refused)
    arrays, reasons = {}, [refusal.reason for refusal in found.refused]
    for case in found.cases:
        try:
            arrays[case["series"]] = read(case["image"])
        except AnomalyError as error:
            reasons.append(str(error))
    neighbour = arrays.pop(next(case["series"] for case in found.cases if str(case["image"]).endswith(GOOD)))[0]
    np.testing.assert_array_equal(neighbour[..., 0], np.arange(48).reshape(6, 8))
    for array, meta in arrays.values():
        assert np.isfinite(array).all() and tuple(meta["spatial_shape"]) == array.shape[:3] and np.isfinite(meta["affine"]).all()
    return arrays, reasons


def is_sentence(reason: str) -> bool:
    """A reason that a person can read: one or a few sentences, not a traceback."""
    plain = "\n" not in reason and "Traceback" not in reason
    return plain and (reason[0].isupper() or reason[0].isdecimal()) and reason.endswith(".") and 20 < len(reason) < 700


def world(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where the voxels lie, in DICOM's axes (left, posterior, superior)."""
    index = np.stack(np.meshgrid(*map(np.arange, shape[:3]), indexing="ij"), axis=-1)
    return (index @ affine[:3, :3].T + affine[:3, 3]) * [-1, -1, 1]
