"""A series for the tests of this folder, oblique and with its files in disorder."""

from __future__ import annotations

import numpy as np
import pytest
from support.dicom import OBLIQUE, make_series

from monai_anomaly.data.geometry import Grid
from monai_anomaly.data.reader import case_grid


@pytest.fixture(scope="package")
def series_files(tmp_path_factory) -> list[str]:
    """Its files: five slices of 12 x 9 pixels."""
    folder = make_series(tmp_path_factory.mktemp("series") / "a", orientation=OBLIQUE, order=[3, 1, 4, 0, 2])
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="package")
def series_grid(series_files) -> Grid:
    """Where its voxels lie."""
    return case_grid(series_files)


@pytest.fixture(scope="package")
def random_mask(series_grid) -> np.ndarray:
    """A mask on it."""
    return np.random.default_rng(0).random(series_grid.shape) > 0.7
