"""What a client is answered: the verdict on a study as JSON, and its mask or heat map as a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import nrrd
import numpy as np
from numpy.typing import NDArray

from ..data.geometry import RAS_TO_LPS
from ..errors import DataError, OptionError
from ..inference import Verdict
from ..writers import write_map_volume
from ..writers.volume import is_orthogonal
from .viewer_grid import viewer_affine

__all__ = ["EXTENSIONS", "LABELS", "NOTICE", "Kind", "answer", "checked_extension", "checked_rate", "write_result"]

Kind = Literal["mask", "map"]

LABELS = {"anomaly": 1}
EXTENSIONS = (".nii.gz", ".nrrd")
NOTICE = "Research only, not for diagnostic use: it says where an image differs from the normal scans that the model was trained on."


def checked_extension(request: Mapping[str, Any]) -> str:
    """The ending of the result's file that a request asks for; a client's text, which becomes part of a path.

    Args:
        request: MONAI Label's.

    Raises:
        OptionError: it is none of :data:`EXTENSIONS`.

    Example:
        >>> checked_extension({})
        '.nii.gz'
    """
    extension = request.get("result_extension") or EXTENSIONS[0]
    if extension not in EXTENSIONS:
        raise OptionError(f"result_extension is {extension!r}; expected {' or '.join(EXTENSIONS)}.")
    return str(extension)


def checked_rate(request: Mapping[str, Any]) -> float | None:
    """The false-alarm rate that a request asks for, if it does.

    Args:
        request: MONAI Label's.

    Raises:
        OptionError: it is no number.

    Example:
        >>> checked_rate({"false_alarm_rate": 0.05})
        0.05
    """
    rate = request.get("false_alarm_rate")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate)):
        raise OptionError(f"false_alarm_rate is {rate!r}; expected a number such as 0.05.")
    return rate


def answer(verdict: Verdict, kind: Kind) -> dict[str, Any]:
    """The verdict as plain JSON types.

    Args:
        verdict: of a study.
        kind: what the file beside it holds.

    Returns:
        ``anomaly_score``, ``p_value``, ``flagged``, ``threshold`` and ``false_alarm_rate`` of the patient, ``map_threshold`` of the mask;
        ``slice_scores``, one for each slice as the heat maps and tables count them, ``null`` where it is empty; ``findings`` with the columns of
        ``findings.csv``; ``model``; ``label_names`` for viewers. What is not known is ``null``.

    Example:
        >>> answer(verdict, "mask")["label_names"]  # doctest: +SKIP
        {'anomaly': 1}
    """
    scores: list[float | None] = [None] * verdict.n_slices
    for row in verdict.slices:
        scores[row["slice"]] = row["score"]
    return {
        "anomaly_score": verdict.score,
        "p_value": verdict.p_value,
        "flagged": verdict.flagged,
        "threshold": verdict.threshold,
        "false_alarm_rate": verdict.false_alarm_rate,
        "map_threshold": verdict.map_threshold,
        "slice_scores": scores,
        "findings": [dict(row) for row in verdict.findings],
        "n_findings": verdict.n_findings,
        "result": kind,
        "series": verdict.case["series"],
        "model": asdict(verdict.model),
        "label_names": dict(LABELS) if kind == "mask" else {},
        "notice": NOTICE,
    }


def write_result(verdict: Verdict, kind: Kind, path: Path) -> Path:
    """Write the mask (uint8, 0 and 1) or the heat map (float32, NaN where a slice is empty) on the study's own grid.

    Viewers go by the order of the voxels: it is that of the file, of a DICOM series that in which ITK and SimpleITK read it. Images without a place in the
    patient get the one that ITK gives them.

    Args:
        verdict: of the study.
        kind: mask or map.
        path: ends in one of :data:`EXTENSIONS`.

    Returns:
        The path.

    Raises:
        CalibrationError: a mask of a model that is not calibrated.
        DataError: NRRD of a sheared volume, which its readers set upright; or the file cannot be written.

    Example:
        >>> write_result(verdict, "map", Path("map.nii.gz"))  # doctest: +SKIP
    """
    values: NDArray[Any] = verdict.mask if kind == "mask" else verdict.map.source
    affine = viewer_affine(verdict.map.grid.source_affine, verdict.map.grid.in_patient)
    if path.name.endswith(".nii.gz"):
        return write_map_volume(path, values, affine)
    if not is_orthogonal(affine):
        raise DataError(
            "The axes of the volume are not at right angles, and readers of NRRD would set them upright, millimetres off; expected result_extension "
            ".nii.gz for this one."
        )
    to_lps = (RAS_TO_LPS @ affine)[:3, [1, 0, 2, 3]]
    header = {
        "space": "left-posterior-superior",
        "space directions": to_lps[:, :3].T,
        "space origin": to_lps[:, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip",
    }
    stored = values.transpose(1, 0, 2).astype(np.uint8 if kind == "mask" else np.float32, copy=False)
    try:
        nrrd.write(str(path), stored, header, compression_level=1)
    except OSError as error:
        raise DataError(f"{path} could not be written ({error.strerror or error}); expected a folder with free space.") from error
    return path
