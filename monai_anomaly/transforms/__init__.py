"""The few image transforms that MONAI lacks."""

from __future__ import annotations

from .empty import MarkEmptySlicesd
from .imagenet import IMAGENET_MEAN, IMAGENET_STD, from_unit_range, to_unit_range
from .intensity import PRESETS, ScaleIntensityByModalityd
from .orient import OrientSlicesd, to_source_grid
from .pseudo import (
    CutPaste,
    GaussianPatch,
    PerlinPatch,
    PseudoAbnormal,
    PseudoAnomaly,
    RectangleCutPaste,
    ScarCutPaste,
    SimplexPatch,
)
from .resize import ResizeSlicesd
from .rgb import ToRGBd
from .windows import CT_WINDOWS_HU

__all__ = [
    "CT_WINDOWS_HU",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PRESETS",
    "CutPaste",
    "GaussianPatch",
    "MarkEmptySlicesd",
    "OrientSlicesd",
    "PerlinPatch",
    "PseudoAbnormal",
    "PseudoAnomaly",
    "RectangleCutPaste",
    "ResizeSlicesd",
    "ScaleIntensityByModalityd",
    "ScarCutPaste",
    "SimplexPatch",
    "ToRGBd",
    "from_unit_range",
    "to_source_grid",
    "to_unit_range",
]
