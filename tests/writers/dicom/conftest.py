"""Series made in the test, in every arrangement that a scanner or an export may give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from support.dicom import OBLIQUE, SAGITTAL, make_series
from support.dicom_frames import make_enhanced
from support.dicom_results import HASH

from monai_anomaly.writers.dicom import Algorithm


def tilted(dataset: Dataset, k: int) -> None:
    """As a tilted gantry moves the slices against each other: 0.75 mm a slice along the columns."""
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, round(float(y) + 0.75 * k, 6), z]


def nearly_parallel(dataset: Dataset, k: int) -> None:
    """Directions written with other last digits in each slice."""
    dataset.ImageOrientationPatient = [1, f"{k}e-7", 0, 0, 1, 0]


def without_thickness(dataset: Dataset, k: int) -> None:
    dataset.SliceThickness = None


SERIES: dict[str, Callable[[Path], Path]] = {
    "axial": lambda path: make_series(path, order=(3, 0, 4, 1, 2)),
    "axial, feet first": lambda path: make_series(path, step=-2.5),
    "rotated by 180 degrees": lambda path: make_series(path, orientation=(-1, 0, 0, 0, -1, 0), order=(4, 3, 2, 1, 0)),
    "sagittal": lambda path: make_series(path, orientation=SAGITTAL, modality="MR", order=(2, 1, 0, 4, 3)),
    "oblique": lambda path: make_series(path, orientation=OBLIQUE, slopes=(1.0, 0.5, 0.25)),
    "tilted gantry": lambda path: make_series(path, change=tilted),
    "one slice": lambda path: make_series(path, n=1),
    "nearly parallel": lambda path: make_series(path, change=nearly_parallel),
    "without thickness": lambda path: make_series(path, change=without_thickness),
    "enhanced CT, frames in any order": lambda path: make_enhanced(path / "a"),
    "enhanced MR, oblique": lambda path: make_enhanced(path / "a", modality="MR", orientation=OBLIQUE, seed=3),
    "enhanced, one frame": lambda path: make_enhanced(path / "a", n=1),
}


@pytest.fixture(params=SERIES)
def series(request, tmp_path) -> list[str]:
    """The files of a series; voxel values are a linear function of the place in the patient."""
    folder = tmp_path / "series"
    SERIES[request.param](folder)
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def algorithm() -> Algorithm:
    return Algorithm("SkipTS", HASH, "ab" * 32, threshold=0.75, false_alarm_rate=0.05)
