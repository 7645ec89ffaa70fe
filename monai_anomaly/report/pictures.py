"""Slices beside each other as a radiologist reads them: sides of the patient, a bar in mm, the heat map on the model's one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from ..errors import OptionError
from ..writers import ColourScale, binary_mask, rgb_image
from .drawing import SCALE_LABEL, bare_axes, draw_bar, draw_contour, draw_sides, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture", "show_pictures"]

_DPI = 90
_GAP_IN = 0.08
_TITLE_IN = 0.3
_LINE_IN = 0.15
_BAR_IN = 1.0
_LOWEST_IN = 0.5
"""A bar with its number in a picture lower than this would lie on the letters and on the patient."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A slice, and what is to be drawn over it.

    Args:
        image: ``(1 or 3, H, W)`` in [0, 1], in display orientation.
        anomaly_map: ``(H, W)`` or ``(1, H, W)``, drawn on the model's colour scale; where it is not finite the image stays bare.
        mask: a region whose outline is drawn, ``(H, W)`` or ``(1, H, W)``.
        spacing_mm: (from row to row, from column to column), for the shape of the picture and its bar in mm; ``None``: not known.
        edges: sides of the patient at the top, the bottom, the left and the right of the picture, such as ``"APRL"``; empty: not known.
        title: line above it.
    """

    image: ArrayLike
    anomaly_map: ArrayLike | None = None
    mask: ArrayLike | None = None
    spacing_mm: tuple[float, float] | None = None
    edges: str = ""
    title: str = ""


def show_pictures(
    pictures: Sequence[Picture],
    value_range: Sequence[float] | None = None,
    *,
    columns: int = 4,
    side_in: float = 2.2,
    scale_label: str = SCALE_LABEL,
) -> Figure:
    """Draw pictures in rows; as the last line of a cell it shows them, where a notebook began with ``%matplotlib inline``.

    Args:
        pictures: what to draw.
        value_range: (low, high) of the model's colour scale, ``AnomalyDetector.colour_range``; needed if a picture has a map.
        columns: pictures in a row.
        side_in: longer side of a picture in inches.
        scale_label: what the colour bar is of; beside a short one there is a new line behind the first comma.

    Returns:
        The figure.

    Raises:
        OptionError: no picture, a map without ``value_range``, ``edges`` that are not four, or matplotlib is not installed.
        DataError: an image, map or mask of the wrong shape.

    Example:
        >>> import numpy as np
        >>> slice_ = Picture(np.zeros((1, 64, 64)), np.ones((64, 64)), spacing_mm=(0.5, 0.5), edges="APRL", title="slice 7")
        >>> len(show_pictures([slice_, slice_], (0.0, 2.0)).axes)  # two pictures and the colour bar
        3
    """
    if not pictures:
        raise OptionError("There is no picture to show; expected at least one.")
    with_maps = any(picture.anomaly_map is not None for picture in pictures)
    if with_maps and value_range is None:
        raise OptionError("A map was given without value_range; expected the model's colour scale: pass its colour_range.")
    scale = ColourScale(float(value_range[0]), float(value_range[1])) if with_maps and value_range is not None else None
    columns = min(columns, len(pictures))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    titles_in = [max(_title_in(picture) for picture in row) for row in rows]
    width = columns * side_in + (columns - 1) * _GAP_IN + (_BAR_IN if with_maps else 0)
    height = sum(titles_in) + len(rows) * side_in + (len(rows) - 1) * _GAP_IN
    figure = new_figure(width, height, _DPI)
    top = height
    for row, title_in in zip(rows, titles_in, strict=True):
        for column, picture in enumerate(row):
            _draw(figure, picture, scale, column * (side_in + _GAP_IN), top - title_in, side_in)
        top -= title_in + side_in + _GAP_IN
    if scale is not None:
        with_masks = any(picture.mask is not None for picture in pictures)
        left = columns * (side_in + _GAP_IN) + 0.1
        draw_bar(
            figure,
            scale,
            left,
            height - titles_in[0],
            side_in - (0.6 if with_masks and len(rows) == 1 else 0),
            "outline" if with_masks else "",
            scale_label,
        )
    return figure


def _title_in(picture: Picture) -> float:
    lines = picture.title.count("\n") + 1
    return _TITLE_IN + (lines - 1) * _LINE_IN if picture.title else _GAP_IN


def _draw(figure: Figure, picture: Picture, scale: ColourScale | None, left: float, top: float, side: float) -> None:
    axes = bare_axes(figure, left, top, side, side)
    heat = picture.anomaly_map
    pixels = rgb_image(picture.image) if scale is None or heat is None else scale.overlay(picture.image, heat)
    row_mm, column_mm = picture.spacing_mm or (1.0, 1.0)
    axes.imshow(pixels, interpolation="bilinear", aspect=row_mm / column_mm)
    if picture.mask is not None:
        draw_contour(axes, binary_mask(picture.mask, pixels.shape[:2]))
    high_in = side * min(1.0, pixels.shape[0] * row_mm / (pixels.shape[1] * column_mm))
    draw_sides(axes, pixels.shape[1], picture.spacing_mm if high_in >= _LOWEST_IN else None, picture.edges)
    if picture.title:
        axes.set_title(picture.title, fontsize=8, pad=3, parse_math=False)
