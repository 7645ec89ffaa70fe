"""What pages and rows of pictures share: bare axes at a place in inches, the patient's sides and a bar in mm, the line around a lesion, the colour bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from ..errors import OptionError
from ..writers import OUTLINE, ColourScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CONTOUR_INK", "SCALE_LABEL", "bare_axes", "draw_bar", "draw_contour", "draw_sides", "new_figure", "sides"]

CONTOUR_INK = "#00a583"
"""The line's colour, darker, for words on white."""
SCALE_LABEL = "anomaly map, one scale for this model"
_EDGES = ((0.5, 0.96, "center", "top"), (0.5, 0.04, "center", "bottom"), (0.04, 0.5, "left", "center"), (0.96, 0.5, "right", "center"))
"""Where the letters stand, in shares of the picture: top, bottom, left, right."""
_LENGTHS_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


def new_figure(width_in: float, height_in: float, dpi: int) -> Figure:
    """A figure of its own, not pyplot's: nothing global, no window, safe in a notebook and in a thread.

    Raises:
        OptionError: matplotlib is not installed.

    Example:
        >>> new_figure(4, 3, 100).get_size_inches().tolist()
        [4.0, 3.0]
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError("Pictures need matplotlib, which is not installed: run pip install matplotlib.") from error
    figure = Figure(figsize=(width_in, height_in), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def bare_axes(figure: Figure, left_in: float, top_in: float, width_in: float, height_in: float) -> Axes:
    """Black axes without frame and ticks, from the page's left edge, and from its bottom to their upper edge.

    Example:
        >>> bare_axes(new_figure(4, 4, 100), 1, 3, 2, 2).get_position().get_points().tolist()
        [[0.25, 0.25], [0.75, 0.75]]
    """
    width, height = figure.get_size_inches()
    axes = figure.add_axes((left_in / width, (top_in - height_in) / height, width_in / width, height_in / height), facecolor="black")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def draw_contour(axes: Axes, inside: NDArray[np.bool_]) -> None:
    """Draw a thin line around a mask ``(H, W)``; nothing if it is empty.

    Example:
        >>> axes = bare_axes(new_figure(4, 4, 100), 0, 4, 4, 4)
        >>> draw_contour(axes, np.eye(8, dtype=bool))
        >>> len(axes.collections)
        1
    """
    if not inside.any():
        return
    # Padded with outside, so that the line closes where the lesion meets the picture's edge.
    ticks = [range(-1, n + 1) for n in reversed(inside.shape)]
    axes.contour(*ticks, np.pad(inside, 1), levels=[0.5], colors=[[level / 255 for level in OUTLINE]], linewidths=1.0)
    axes.set(xlim=(-0.5, inside.shape[1] - 0.5), ylim=(inside.shape[0] - 0.5, -0.5))


def draw_bar(
    figure: Figure, scale: ColourScale, left_in: float, top_in: float, height_in: float, outline: str, label: str = SCALE_LABEL
) -> None:
    """Draw the model's colour scale as a bar with its two numbers, beside it what it is of, and below it what the line is, if there is one.

    Example:
        >>> figure = new_figure(4, 4, 100)
        >>> draw_bar(figure, ColourScale(0.0, 1.0), 3, 3.5, 2, outline="ground truth")
        >>> len(figure.axes), len(figure.texts)
        (1, 1)
    """
    width, height = figure.get_size_inches()
    axes = bare_axes(figure, left_in, top_in, 0.18, height_in)
    axes.imshow(scale.bar(256, 8), aspect="auto", extent=(0, 1, scale.low, scale.high))
    axes.yaxis.tick_right()
    axes.set_yticks([scale.low, scale.high], [f"\u2264 {scale.low:.3g}", f"\u2265 {scale.high:.3g}"], fontsize=8)
    axes.set_ylabel(label if height_in > 2.1 else label.replace(", ", ",\n", 1), fontsize=7.5, color="#444444")
    axes.yaxis.set_label_position("right")
    if outline:
        figure.text(
            left_in / width,
            (top_in - height_in - 0.25) / height,
            "\u2014 " + outline.replace(" ", "\n    "),
            fontsize=8,
            color=CONTOUR_INK,
            va="top",
        )


def sides(slice_affine: NDArray[np.float64]) -> str:
    """Sides of the patient at the top, the bottom, the left and the right of slices; the closest ones, where they are oblique.

    Args:
        slice_affine: ``(4, 4)``, from (row, column, slice) to mm, right-anterior-superior.

    Example:
        >>> sides(np.eye(4)[[1, 0, 2, 3]] * [-1, -1, 1, 1])
        'APRL'
    """
    down, across, _ = aff2axcodes(slice_affine)
    return _OPPOSITE[down] + down + _OPPOSITE[across] + across


def draw_sides(axes: Axes, n_columns: int, spacing_mm: tuple[float, float] | None, edges: str) -> None:
    """Draw what a radiologist orients by: a bar of a round length, at most a third of the picture, and the patient's sides.

    Args:
        axes: of the picture.
        n_columns: pixels in one of its rows.
        spacing_mm: (from row to row, from column to column); ``None``: not known, no bar.
        edges: letters at the top, the bottom, the left and the right; empty: not known.

    Raises:
        OptionError: ``edges`` that are not four.

    Example:
        >>> axes = bare_axes(new_figure(4, 4, 100), 0, 4, 4, 4)
        >>> draw_sides(axes, 256, (0.5, 0.5), "APRL")
        >>> [text.get_text() for text in axes.texts]
        ['20 mm', 'A', 'P', 'R', 'L']
    """
    if len(edges) not in (0, 4):
        raise OptionError(f"edges is {edges!r}; expected four letters (top, bottom, left, right), or none.")
    if spacing_mm is not None:
        _draw_length(axes, n_columns, spacing_mm[1])
    for letter, place in zip(edges, _EDGES, strict=False):  # none, where the sides are not known
        _write(axes, letter, *place)


def _draw_length(axes: Axes, n_columns: int, column_mm: float) -> None:
    """A bar of a round length, at most a third of the picture."""
    fitting = [length for length in _LENGTHS_MM if length <= n_columns * column_mm / 3]
    if not fitting:
        return
    share = fitting[-1] / (n_columns * column_mm)
    for colour, thickness in (("black", 4.0), ("white", 2.0)):
        axes.plot([0.04, 0.04 + share], [0.05, 0.05], color=colour, linewidth=thickness, transform=axes.transAxes, solid_capstyle="butt")
    _write(axes, f"{fitting[-1]} mm", 0.04, 0.07, "left", "bottom")


def _write(axes: Axes, text: str, x: float, y: float, ha: str, va: str) -> None:
    """White letters that a bright image does not swallow."""
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=1.5, foreground="black")]
    # Bold: the foot of a thin L is lost where it falls between two pixels, and left reads as inferior.
    axes.text(x, y, text, color="white", fontsize=8, fontweight="bold", ha=ha, va=va, transform=axes.transAxes, path_effects=outline)
