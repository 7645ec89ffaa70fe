"""Intensities to the unit range, by what the values mean."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..errors import DataError, OptionError
from .tensors import metadata, plain, slice_blocks
from .windows import windows

__all__ = ["PRESETS", "ScaleIntensityByModalityd"]

PRESETS = ("auto", "ct", "mr", "xr", "oct", "us", "image")
"""What ``preset`` may be."""

XR_MODALITIES = ("CR", "DX", "MG", "RF", "XA")
LOWER_PERCENTILE, UPPER_PERCENTILE = 0.5, 99.5
SAMPLED = 4_000_000
"""Most voxels that percentiles are taken from."""
LARGEST = 1e30
"""No scanner measures this; beyond lie values that float32 cannot be scaled with."""

Range = tuple[float, float]


class ScaleIntensityByModalityd(MapTransform):
    """Scale to [0, 1] by what the values mean: a storage range, Hounsfield units, or nothing absolute.

    =====================  ======================================================================================================
    preset                 rule
    =====================  ======================================================================================================
    ct                     clipped to a window in HU; three windows give three channels, in their order
    mr                     clipped to percentiles 0.5 and 99.5 of the volume, background included; PET and NM, too
    xr                     (CR, DX, MG, RF, XA) clipped to percentiles 0.5 and 99.5 of the image
    oct, us, image         the storage range (8-bit is divided by 255, 16-bit by 65535); where it is not known, percentiles as in mr
    auto                   ``image`` where the storage range is known, else ``ct`` where the units are HU, else ``xr`` for those modalities, else ``mr``
    =====================  ======================================================================================================

    The metadata tell (:class:`monai_anomaly.data.CaseReader`): ``value_range``, ``units``, ``modality``. A CT without ``units`` counts as HU. The rule used
    is kept in the dictionary as ``intensity``. Of images above 4 million voxels percentiles are taken from a sample, always the same one: every n-th row and
    column of all slices. Where both percentiles are equal, the lowest and the highest value take their place; an image of one value is black by percentiles.

    Args:
        keys: images ``(C, H, W, S)`` with metadata, integer or float; the result is float32.
        preset: one of those above.
        ct_window: a name in ``CT_WINDOWS_HU``, ``(lowest, highest)`` in HU, or a list of three of these; for CT only.
        allow_missing_keys: pass over absent keys.

    Raises:
        DataError: NaN or infinite values, values outside the storage range, or preset ``ct`` for an image that is not in HU.
        OptionError: no such preset or window, or two windows.

    Example:
        >>> head = MetaTensor(torch.tensor([-1000.0, 0.0, 40.0, 2000.0]).reshape(1, 2, 2, 1), meta={"modality": "CT", "units": "HU"})
        >>> out = ScaleIntensityByModalityd("image", ct_window="brain")({"image": head})
        >>> out["image"].flatten().tolist(), out["intensity"]
        ([0.0, 0.0, 0.5, 1.0], 'CT window brain 0 to 80 HU')
        >>> out = ScaleIntensityByModalityd("image", ct_window=["brain", [-50, 150], "bone"])({"image": head})
        >>> out["image"].shape, out["intensity"]
        (torch.Size([3, 2, 2, 1]), 'CT windows brain 0 to 80, -50 to 150, bone -500 to 1300 HU')
    """

    def __init__(
        self,
        keys: KeysCollection,
        preset: str = "auto",
        ct_window: str | Sequence[Any] = "brain",
        allow_missing_keys: bool = False,
    ):
        super().__init__(keys, allow_missing_keys)
        if preset not in PRESETS:
            raise OptionError(f"preset is {preset!r}; expected one of {', '.join(PRESETS)}.")
        self.preset, self.windows = preset, windows(ct_window)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the images of one case."""
        d = dict(data)
        for key in self.key_iterator(d):
            image, meta = plain(d[key]), metadata(d[key])
            image = image if image.is_floating_point() else image.float()
            ranges, d["intensity"] = self._rule(image, meta)
            scaled = _scaled(image, ranges)
            d[key] = MetaTensor(scaled, meta=meta) if isinstance(d[key], MetaTensor) else scaled
        return d

    def _rule(self, image: Tensor, meta: Mapping[str, Any]) -> tuple[Sequence[Range], str]:
        """One range for each channel wanted, and the rule in words."""
        lowest, highest = _ends(image)
        preset = _preset_of(meta) if self.preset == "auto" else self.preset
        if preset == "ct":
            # A NIfTI volume does not say what its numbers are; whoever names the preset knows.
            if not _in_hu(meta) and (meta.get("modality") or _storage_range(meta)):
                raise DataError(
                    f"The image's values are not known to be Hounsfield units (modality {meta.get('modality') or 'not given'}); "
                    "expected a CT in HU for preset ct: use preset auto, or leave the image out."
                )
            if len(self.windows) > 1 and image.shape[0] != 1:
                raise DataError(f"The CT image has {image.shape[0]} channels; expected 1 for several windows: use one window.")
            words = ", ".join(map(str, self.windows))
            return [window[:2] for window in self.windows], f"CT window{'s' if len(self.windows) > 1 else ''} {words} HU"
        label = preset if preset == "image" else preset.upper()
        stored = _storage_range(meta)
        if preset in ("oct", "us", "image") and stored is not None:
            if lowest < stored[0] or highest > stored[1]:
                raise DataError(
                    f"The image has values from {lowest:g} to {highest:g}, outside its storage range {stored[0]:g} to {stored[1]:g}; "
                    "expected them inside: use preset mr, or export it again."
                )
            return [stored], f"{label} storage range {stored[0]:g} to {stored[1]:g}"
        words = f"{label} percentiles {LOWER_PERCENTILE:g} to {UPPER_PERCENTILE:g}"
        if lowest == highest:
            return [(lowest, math.inf)], f"{words} (one value everywhere: black)"
        low, high = np.percentile(_sample(image), [LOWER_PERCENTILE, UPPER_PERCENTILE]).tolist()
        return ([(low, high)], words) if low < high else ([(lowest, highest)], f"{words} (equal: lowest to highest value)")


def _preset_of(meta: Mapping[str, Any]) -> str:
    if _storage_range(meta) is not None:
        return "image"
    return "ct" if _in_hu(meta) else "xr" if meta.get("modality") in XR_MODALITIES else "mr"


def _in_hu(meta: Mapping[str, Any]) -> bool:
    return meta["units"] == "HU" if "units" in meta else meta.get("modality") == "CT"


def _storage_range(meta: Mapping[str, Any]) -> Range | None:
    ends = np.asarray(meta.get("value_range", ()), dtype=float).ravel()
    return (float(ends[0]), float(ends[1])) if ends.size == 2 and ends[0] < ends[1] else None


def _ends(image: Tensor) -> Range:
    """Lowest and highest value; as a NaN is carried through, they also tell whether all are finite."""
    ends = [block.aminmax() for block in slice_blocks(image)]
    lowest, highest = float(torch.stack([low for low, _ in ends]).min()), float(torch.stack([high for _, high in ends]).max())
    if not (abs(lowest) < LARGEST and abs(highest) < LARGEST):
        raise DataError(
            f"The image has values from {lowest:g} to {highest:g}; expected finite numbers that were measured: export it again."
        )
    return lowest, highest


def _sample(image: Tensor) -> np.ndarray[Any, Any]:
    """Every n-th row and column, so that each slice counts; a step through the flattened volume could meet the same slices again and again."""
    step = math.ceil(math.sqrt(image.numel() / SAMPLED))
    return image[:, ::step, ::step].float().cpu().numpy()


def _scaled(image: Tensor, ranges: Sequence[Range]) -> Tensor:
    """Each range to [0, 1], clipped, one after the other along the channels. In place on the result: a volume may be a gigabyte."""
    scaled = torch.empty((len(ranges) * image.shape[0], *image.shape[1:]), dtype=torch.float32, device=image.device)
    for channels, (low, high) in zip(scaled.split(image.shape[0]), ranges, strict=True):
        channels.copy_(image).sub_(low).div_(high - low).clamp_(0, 1)
    return scaled
