"""One picture per slice: the image, and beside it the image with the anomaly map over it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from ..files import write_whole
from .colours import ColourScale, rgb_image

__all__ = ["caption", "write_heatmap"]

_SMALLEST_PX = 256
_BAR_PX = 14
_GAP_PX = 6
_LINE_PX = 18
_INK = (235, 235, 235)


def caption(series: str = "", slice_index: int | None = None, score: float | None = None, p_value: float | None = None) -> str:
    """One line about a slice; what is not known is left out.

    Example:
        >>> caption("s07", 12, 0.4321, 0.04)
        's07  slice 12  score 0.432  p 0.040'
    """
    parts = [
        series,
        "" if slice_index is None else f"slice {slice_index}",
        "" if score is None else f"score {score:.3g}",
        "" if p_value is None else f"p {p_value:.3f}" if p_value >= 0.001 else f"p {p_value:.1e}",
    ]
    return "  ".join(part for part in parts if part)


def write_heatmap(
    path: str | Path,
    image: ArrayLike,
    anomaly_map: ArrayLike,
    value_range: Sequence[float],
    *,
    series: str = "",
    slice_index: int | None = None,
    score: float | None = None,
    p_value: float | None = None,
) -> Path:
    r"""Write a PNG: the image, the image under its heat map, the colour bar with its two numbers, and a caption.

    The colour scale is the model's, never the picture's own: what looks hot here is hotter than what looks cool in any other picture of this model.
    Images smaller than 256 pixels are enlarged by a whole factor.

    Args:
        path: the PNG.
        image: ``(1 or 3, H, W)`` in [0, 1].
        anomaly_map: ``(H, W)`` or ``(1, H, W)``; where it is not finite nothing is drawn.
        value_range: (low, high) of the model's colour scale, in map units.
        series: pseudonym of the series; never a patient's name.
        slice_index: number of the slice as in the tables.
        score: the slice's score.
        p_value: its calibrated p-value.

    Returns:
        The path.

    Raises:
        DataError: shapes differ, or the file cannot be written.
        OptionError: a value range that is none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_heatmap(Path(folder) / "a.png", np.zeros((1, 64, 64)), np.ones((64, 64)), (0.0, 2.0), series="s07", score=1.0)
        ...     path.read_bytes()[:4]
        b'\x89PNG'
    """
    scale = ColourScale(float(value_range[0]), float(value_range[1]))
    plain, hot = rgb_image(image), scale.overlay(image, anomaly_map)
    height, width = plain.shape[:2]
    factor = -(-_SMALLEST_PX // min(height, width)) if min(height, width) < _SMALLEST_PX else 1
    plain, hot = _enlarged(plain, factor), _enlarged(hot, factor)
    page = np.zeros((plain.shape[0] + _LINE_PX, 2 * plain.shape[1] + 2 * _GAP_PX, 3), dtype=np.uint8)
    page[: plain.shape[0], : plain.shape[1]] = plain
    page[: plain.shape[0], plain.shape[1] + _GAP_PX : 2 * plain.shape[1] + _GAP_PX] = hot

    bar = _bar(scale, plain.shape[0])
    picture = Image.fromarray(np.hstack([page, np.pad(bar, ((0, _LINE_PX), (0, 0), (0, 0)))]))
    draw = ImageDraw.Draw(picture)
    text = _fitting(caption(series, slice_index, score, p_value), picture.width - 8)
    draw.text((4, plain.shape[0] + _LINE_PX // 2), text, fill=_INK, font=_font(), anchor="lm")
    return write_whole(path, lambda file: picture.save(file, format="PNG", compress_level=1))


def _enlarged(pixels: NDArray[Any], factor: int) -> NDArray[Any]:
    return pixels if factor == 1 else pixels.repeat(factor, axis=0).repeat(factor, axis=1)


@lru_cache(maxsize=32)
def _bar(scale: ColourScale, height: int) -> NDArray[np.uint8]:
    """The colour bar with its numbers; the end colours also stand for what lies beyond."""
    labels = (f"\u2265 {scale.high:.3g}", f"\u2264 {scale.low:.3g}")
    text_px = max(int(_font().getlength(label)) for label in labels)
    picture = Image.new("RGB", (_BAR_PX + _GAP_PX + text_px + 4, height))
    picture.paste(Image.fromarray(scale.bar(height, _BAR_PX)), (0, 0))
    draw = ImageDraw.Draw(picture)
    for label, y, anchor in zip(labels, (2, height - 2), ("la", "ld"), strict=True):
        draw.text((_BAR_PX + _GAP_PX, y), label, fill=_INK, font=_font(), anchor=anchor)
    return np.asarray(picture)


def _fitting(text: str, width_px: int) -> str:
    """The text, its middle replaced by an ellipsis where it is too long."""
    if _font().getlength(text) <= width_px:
        return text
    kept = len(text)
    while kept > 2 and _font().getlength(short := f"{text[: kept // 4]}\u2026{text[len(text) - (kept - kept // 4) :]}") > width_px:
        kept -= 1
    return short


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it: unlike Pillow's own it has the signs used here on every machine."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)
