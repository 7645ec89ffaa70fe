"""Intensities to the unit range, by what the values mean."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensityRange, ScaleIntensityRangePercentiles

from ..errors import OptionError

__all__ = ["CT_WINDOWS_HU", "ScaleIntensityByModalityd"]

CT_WINDOWS_HU: dict[str, tuple[float, float]] = {
    "brain": (0.0, 80.0),  # level 40, width 80
    "subdural": (-50.0, 150.0),  # level 50, width 200 (usual: level 50 to 100, width 130 to 300)
    "lung": (-1350.0, 150.0),  # level -600, width 1500
    "bone": (-500.0, 1300.0),  # level 400, width 1800
    "soft_tissue": (-150.0, 250.0),  # level 50, width 400
}
"""Lower and upper end of the usual windows, in Hounsfield units."""

LOWER_PERCENTILE, UPPER_PERCENTILE = 0.5, 99.5


class ScaleIntensityByModalityd(MapTransform):
    """Scale to [0, 1]: image files by their storage range, CT by a window in Hounsfield units, all else by robust percentiles of the volume.

    8-bit is divided by 255, 16-bit by 65535; CT is clipped to the window; MR and other volumes to their percentiles 0.5 and 99.5. The rule is told by the
    ``value_range`` and ``modality`` in the metadata (:class:`monai_anomaly.data.CaseReader`), and kept in the dictionary as ``intensity``.

    Args:
        keys: images ``(C, H, W, S)`` with metadata.
        ct_window: a name in ``CT_WINDOWS_HU`` or ``(lowest, highest)`` in HU.
        allow_missing_keys: pass over absent keys.

    Raises:
        OptionError: no such window.

    Example:
        >>> import torch
        >>> head = MetaTensor(torch.tensor([-1000.0, 0.0, 40.0, 2000.0]).reshape(1, 2, 2, 1), meta={"modality": "CT"})
        >>> out = ScaleIntensityByModalityd("image", ct_window="brain")({"image": head})
        >>> out["image"].flatten().tolist(), out["intensity"]
        ([0.0, 0.0, 0.5, 1.0], 'CT window 0 to 80 HU')
    """

    def __init__(self, keys: KeysCollection, ct_window: str | tuple[float, float] = "brain", allow_missing_keys: bool = False):
        super().__init__(keys, allow_missing_keys)
        self.window_hu = _window(ct_window)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the images of one case."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            meta = image.meta if isinstance(image, MetaTensor) else {}
            value_range = np.asarray(meta.get("value_range", ())).ravel()
            if value_range.size == 2:
                low, high = (float(value) for value in value_range)
                d[key] = ScaleIntensityRange(low, high, 0.0, 1.0)(image)
                d["intensity"] = f"storage range {low:g} to {high:g}"
            elif meta.get("modality") == "CT":
                low, high = self.window_hu
                d[key] = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)(image)
                d["intensity"] = f"CT window {low:g} to {high:g} HU"
            else:
                # One value everywhere has no range; MONAI would warn and divide by zero.
                flat = bool(image.max() == image.min())
                d[key] = (
                    image * 0 if flat else ScaleIntensityRangePercentiles(LOWER_PERCENTILE, UPPER_PERCENTILE, 0.0, 1.0, clip=True)(image)
                )
                d["intensity"] = f"percentiles {LOWER_PERCENTILE:g} to {UPPER_PERCENTILE:g}"
        return d


def _window(window: Any) -> tuple[float, float]:
    if isinstance(window, str) and window in CT_WINDOWS_HU:
        return CT_WINDOWS_HU[window]
    try:
        low, high = (float(value) for value in window)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not low < high:
        raise OptionError(f"ct_window is {window!r}; expected one of {', '.join(CT_WINDOWS_HU)}, or (lowest, highest) in Hounsfield units.")
    return low, high
