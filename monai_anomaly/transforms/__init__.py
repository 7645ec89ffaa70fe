"""The few image transforms that MONAI lacks."""

from __future__ import annotations

from .empty import MarkEmptySlicesd
from .imagenet import IMAGENET_MEAN, IMAGENET_STD, to_unit_range
from .intensity import CT_WINDOWS_HU, ScaleIntensityByModalityd
from .resize import ResizeSlicesd
from .rgb import ToRGBd

__all__ = [
    "CT_WINDOWS_HU",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MarkEmptySlicesd",
    "ResizeSlicesd",
    "ScaleIntensityByModalityd",
    "ToRGBd",
    "to_unit_range",
]
