"""DICOM results read back by pydicom and arithmetic alone: which plane lies where, what it refers to, and what dciodvfy says."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

HASH = "5c" * 32
EXPECTED_WARNINGS = (
    "Unrecognized defined term <QUANTITY>",  # newer than dciodvfy: derived pixel contrast of parametric maps, PS3.3 C.8.32
    "is only permitted to be empty when actually unknown",  # laterality of a region that the source does not name
    "would be needed to build DICOMDIR",  # what the source has not got
    "Retired Person Name form",  # how the source writes a name
)
"""Of objects whose source is as the standard wants it."""


class Frame(NamedTuple):
    """A frame of a result, or a slice of a source."""

    plane: np.ndarray
    """``(rows, columns)``."""
    refers_to: tuple[str, int]
    """SOPInstanceUID of an image and the number of its frame, from 1; 0 for a single image."""


Place = tuple[float, ...]
"""Position of the first pixel, then the two directions and the two distances of pixels, rounded to micrometres."""


def _group(groups: Dataset, shared: Dataset, keyword: str) -> Dataset:
    return (groups if keyword in groups else shared)[keyword][0]


def place_of(position: Sequence[float], orientation: Sequence[float], spacing: Sequence[float]) -> Place:
    return tuple(round(float(x), 6) + 0.0 for x in (*position, *orientation, *spacing))


def frames_of_result(path: Path) -> dict[Place, Frame]:
    """The frames of a SEG or a Parametric Map by their place."""
    dataset = dcmread(path)
    n, shape = int(dataset.NumberOfFrames), (dataset.Rows, dataset.Columns)
    if "FloatPixelData" in dataset:
        pixels = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(n, *shape)
    else:
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        assert not bits[n * shape[0] * shape[1] :].any() or dataset.PixelData[-1:] == b"0"
        pixels = bits[: n * shape[0] * shape[1]].reshape(n, *shape).astype(bool)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found: dict[Place, Frame] = {}
    assert len(dataset.PerFrameFunctionalGroupsSequence) == n
    for plane, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence):
        place = place_of(
            _group(groups, shared, "PlanePositionSequence").ImagePositionPatient,
            _group(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient,
            _group(groups, shared, "PixelMeasuresSequence").PixelSpacing,
        )
        (reference,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert place not in found
        found[place] = Frame(plane, (reference.ReferencedSOPInstanceUID, int(reference.get("ReferencedFrameNumber", 0))))
    return found


def slices_of_source(files: Sequence[str | Path], pixels: bool = True) -> dict[Place, Frame]:
    """The slices of a series by their place, with their rescaled values, from each file alone; or without values."""
    found: dict[Place, Frame] = {}
    for file in files:
        dataset = dcmread(file, force=True)
        stored = dataset.pixel_array if pixels else np.zeros((int(dataset.get("NumberOfFrames", 1)), 0, 0))
        if "PerFrameFunctionalGroupsSequence" not in dataset:
            values = stored * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
            place = place_of(dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing)
            found[place] = Frame(values, (dataset.SOPInstanceUID, 0))
            continue
        shared = dataset.SharedFunctionalGroupsSequence[0]
        stored = stored[None] if stored.ndim == 2 else stored
        for number, (plane, groups) in enumerate(zip(stored, dataset.PerFrameFunctionalGroupsSequence), start=1):
            place = place_of(
                _group(groups, shared, "PlanePositionSequence").ImagePositionPatient,
                _group(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient,
                _group(groups, shared, "PixelMeasuresSequence").PixelSpacing,
            )
            slope, intercept = 1.0, 0.0
            if "PixelValueTransformationSequence" in groups or "PixelValueTransformationSequence" in shared:
                rescale = _group(groups, shared, "PixelValueTransformationSequence")
                slope, intercept = float(rescale.RescaleSlope), float(rescale.RescaleIntercept)
            found[place] = Frame(plane * slope + intercept, (dataset.SOPInstanceUID, number))
    return found


def dciodvfy(path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings of the validator; none where it is not installed (tests/support/test_dicom_results.py says so, once)."""
    if shutil.which("dciodvfy") is None:
        return [], []
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace").stderr.splitlines()
    return [line for line in said if line.startswith("Error")], [line for line in said if line.startswith("Warning")]
