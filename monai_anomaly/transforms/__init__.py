"""The few image transforms that MONAI lacks; pseudo-anomalies have a place of their own, :mod:`monai_anomaly.transforms.pseudo`."""

from __future__ import annotations

from .empty import MarkEmptySlicesd
from .imagenet import IMAGENET_MEAN, IMAGENET_STD, from_unit_range, to_unit_range
from .intensity import ScaleIntensityByModalityd
from .orient import OrientSlicesd
from .resize import ResizeSlicesd
from .rgb import ToRGBd
from .windows import CT_WINDOWS_HU

__all__ = [
    "CT_WINDOWS_HU",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MarkEmptySlicesd",
    "OrientSlicesd",
    "ResizeSlicesd",
    "ScaleIntensityByModalityd",
    "ToRGBd",
    "from_unit_range",
    "to_unit_range",
]
