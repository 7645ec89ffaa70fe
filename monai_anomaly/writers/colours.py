"""One fixed colour scale per model: the same colour means the same map value in every picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError, OptionError

__all__ = ["OUTLINE", "ColourScale", "binary_mask", "rgb_image"]

OUTLINE = (0, 255, 200)
"""Red, green and blue of the line around what is marked: no colour of the scale."""
_COLOURS = "inferno"
"""Of matplotlib's."""
_OPACITY = 0.8
"""Of the last colour; it grows smoothly with the value, half of it at mid-scale."""
_STEPS = 1024


@dataclass(frozen=True)
class ColourScale:
    """Colours from ``low`` (invisible: the image shows through) to ``high`` (brightest); values outside take the end colours.

    Args:
        low: map value at and below which nothing is drawn.
        high: map value of the last colour.

    Raises:
        OptionError: numbers that make no scale.

    Example:
        >>> image = np.full((1, 2, 2), 0.5)
        >>> ColourScale(1.0, 3.0).overlay(image, np.array([[1.0, 0.0], [3.0, 9.0]]))[..., 0].tolist()
        [[128, 128], [227, 227]]
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise OptionError(f"The colour scale goes from {self.low} to {self.high}; expected two finite numbers, the lower one first.")

    def overlay(self, image: ArrayLike, anomaly_map: ArrayLike) -> NDArray[np.uint8]:
        """Lay the map over the image.

        Args:
            image: ``(1 or 3, H, W)`` in [0, 1].
            anomaly_map: ``(H, W)`` or ``(1, H, W)``; where it is not finite the image stays bare.

        Returns:
            ``(H, W, 3)`` uint8.

        Raises:
            DataError: shapes differ.
        """
        base = rgb_image(image)
        values = _array(anomaly_map)
        values = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
        if values.shape != base.shape[:2]:
            raise DataError(f"The anomaly map has shape {values.shape} and the image {base.shape[:2]} (H, W); expected the same.")
        position = (values.astype(np.float32) - np.float32(self.low)) * np.float32((_STEPS - 1) / (self.high - self.low))
        index = np.clip(np.nan_to_num(position, nan=0.0), 0, _STEPS - 1).astype(np.intp)
        weighted, remaining = _table()
        blended = base * remaining[index] + weighted[index]
        return (blended + np.float32(0.5)).astype(np.uint8)

    def bar(self, height: int, width: int) -> NDArray[np.uint8]:
        """The scale as a picture ``(height, width, 3)``, ``high`` on top, laid over grey as the overlays are."""
        values = np.linspace(self.high, self.low, height)[:, None].repeat(width, axis=1)
        return self.overlay(np.full((1, height, width), 0.3), values)


def rgb_image(image: ArrayLike) -> NDArray[np.uint8]:
    """Turn an image ``(1 or 3, H, W)`` in [0, 1] into ``(H, W, 3)`` uint8; values outside are clipped, as a display does.

    Raises:
        DataError: another shape, or values that are not finite.

    Example:
        >>> rgb_image(np.ones((1, 2, 2)))[0, 0].tolist()
        [255, 255, 255]
    """
    values = _array(image)
    if values.ndim != 3 or values.shape[0] not in (1, 3) or not values.size:
        raise DataError(f"The image has shape {values.shape}; expected (1, H, W) or (3, H, W).")
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise DataError("The image holds values that are not finite; expected numbers from 0 to 1.")
    pixels = (np.clip(values, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))


def binary_mask(mask: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Turn a mask ``(H, W)`` or ``(1, H, W)``, non-zero inside, into a boolean ``(H, W)``.

    Raises:
        DataError: not of the image's shape (H, W).

    Example:
        >>> binary_mask(np.array([[[0, 255]]]), (1, 2)).tolist()
        [[False, True]]
    """
    values = _array(mask)
    values = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
    if values.shape != tuple(shape):
        raise DataError(f"The mask has shape {values.shape} and the image {tuple(shape)} (H, W); expected the same.")
    return np.asarray(values != 0)


def _array(values: Any) -> NDArray[Any]:
    """NumPy array of an array or of a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


@lru_cache(maxsize=1)
def _table() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per step of the scale: colour times opacity ``(_STEPS, 3)``, and what remains of the image ``(_STEPS, 1)``."""
    try:
        import matplotlib
    except ImportError as error:
        raise OptionError("Pictures need matplotlib, which is not installed: run pip install matplotlib.") from error
    steps = np.linspace(0, 1, _STEPS)
    # A smooth step: the lower part of the scale, where normal tissue lies, hardly tints the image; the upper part shows its colour.
    alpha = (_OPACITY * steps * steps * (3 - 2 * steps))[:, None]
    rgb = matplotlib.colormaps[_COLOURS](steps)[:, :3]
    return (255 * alpha * rgb).astype(np.float32), (1 - alpha).astype(np.float32)
