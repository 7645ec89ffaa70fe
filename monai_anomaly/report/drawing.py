"""What pages and rows of pictures share: bare axes at a place in inches, the line around a lesion, the colour bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..writers import ColourScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CONTOUR_INK", "SCALE_LABEL", "bare_axes", "draw_bar", "draw_contour", "new_figure"]

_CONTOUR = "#00ffc8"
CONTOUR_INK = "#00a583"
"""The line's colour, for words on white."""
SCALE_LABEL = "anomaly map, one scale for this model"


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
    axes.contour(*ticks, np.pad(inside, 1), levels=[0.5], colors=_CONTOUR, linewidths=1.0)
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
