"""Fixtures of the tests of what goes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged, NormalizeIntensityd
from support.dicom import hu_at, make_series

from monai_anomaly.data import CaseReader
from monai_anomaly.transforms import MarkEmptySlicesd, ResizeSlicesd, ScaleIntensityByModalityd, ToRGBd


@pytest.fixture
def series() -> Callable[..., Path]:
    """Write a series into a folder."""
    return make_series


@pytest.fixture
def hu() -> Callable[[np.ndarray], np.ndarray]:
    """The value that a written series has at a place in the patient."""
    return hu_at


@pytest.fixture
def chain() -> Callable[[int], Any]:
    """The preprocessing of the bundles."""

    def make(size: int) -> Compose:
        return Compose(
            [
                LoadImaged(["image", "mask"], reader=CaseReader, ensure_channel_first=True, allow_missing_keys=True),
                ScaleIntensityByModalityd("image"),
                MarkEmptySlicesd("image"),
                ResizeSlicesd(["image", "mask"], size, allow_missing_keys=True),
                ToRGBd("image"),
                NormalizeIntensityd("image", subtrahend=[0.485, 0.456, 0.406], divisor=[0.229, 0.224, 0.225], channel_wise=True),
            ]
        )

    return make
