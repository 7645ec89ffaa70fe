"""One page for people: the most anomalous and the most normal slices, each with its heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from ..errors import OptionError
from ..files import write_whole
from ..writers import ColourScale, binary_mask, caption, rgb_image
from .drawing import bare_axes, draw_bar, draw_contour, draw_sides, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FOOTER", "Tile", "write_contact_sheet"]

FOOTER = "Colour: differs from the normal scans supplied. Not a diagnosis; not a medical device."

_CELL_IN = 2.2
_CAPTION_IN = 0.42
_HEADING_IN = 0.42
_TITLE_IN = 0.6
_FOOTER_IN = 0.5
_SIDE_IN = 0.3
_BAR_IN = 1.1
_GAP_IN = 0.06


@dataclass(frozen=True, eq=False)
class Tile:
    """One slice on the page.

    Args:
        image: ``(1 or 3, H, W)`` in [0, 1].
        anomaly_map: ``(H, W)`` or ``(1, H, W)``.
        series: pseudonym of the series; never a patient's name.
        slice_index: number of the slice as in the tables.
        score: the slice's score.
        p_value: its calibrated p-value.
        mask: ground truth, ``(H, W)`` or ``(1, H, W)``.
        spacing_mm: (from row to row, from column to column), for the shape of the picture and its bar in mm; ``None``: not known.
        edges: sides of the patient at the top, the bottom, the left and the right of the picture, such as ``"APRL"``; empty: not known.
    """

    image: ArrayLike
    anomaly_map: ArrayLike
    series: str = ""
    slice_index: int | None = None
    score: float | None = None
    p_value: float | None = None
    mask: ArrayLike | None = None
    spacing_mm: tuple[float, float] | None = None
    edges: str = ""


def write_contact_sheet(
    path: str | Path,
    rows: Sequence[tuple[str, Sequence[Tile]]],
    value_range: Sequence[float],
    title: str = "",
) -> Path:
    r"""Write a PNG page: for each row a heading and its tiles; in a tile the image, below it the image under its heat map, and a caption.

    Over the image stand the patient's sides and a bar in mm, where they are known. All tiles share the model's colour scale, drawn once at the side. Ground
    truth, where a tile has any, is a thin line over the heat map.

    Args:
        path: the PNG.
        rows: headings such as "Most anomalous" with their tiles, usually four each; a row may be empty and is then left out.
        value_range: (low, high) of the model's colour scale, in map units.
        title: line at the top.

    Returns:
        The path.

    Raises:
        OptionError: no tile at all, a value range that is none, ``edges`` that are not four, or matplotlib is not installed.
        DataError: shapes differ, or the file cannot be written.

    Example:
        >>> import numpy as np, tempfile
        >>> tile = Tile(np.zeros((1, 32, 32)), np.ones((32, 32)), series="s07", score=1.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_contact_sheet(Path(folder) / "page.png", [("Most anomalous", [tile])], (0.0, 2.0)).read_bytes()[:4]
        b'\x89PNG'
    """
    scale = ColourScale(float(value_range[0]), float(value_range[1]))
    rows = [(heading, tiles) for heading, tiles in rows if tiles]
    if not rows:
        raise OptionError("A contact sheet without a tile was asked for; expected at least one slice.")

    columns = max(len(tiles) for _, tiles in rows)
    row_in = _HEADING_IN + 2 * _CELL_IN + _GAP_IN + _CAPTION_IN
    # A single column would leave no room for title and footer.
    width = max(2 * _SIDE_IN + columns * _CELL_IN + (columns - 1) * _GAP_IN + _BAR_IN, 6.0)
    height = _TITLE_IN + len(rows) * row_in + _FOOTER_IN
    figure = new_figure(width, height, dpi=130)
    figure.text(_SIDE_IN / width, 1 - 0.3 / height, title, fontsize=14, fontweight="bold", va="center", parse_math=False)
    top = height - _TITLE_IN
    for heading, tiles in rows:
        figure.text(
            _SIDE_IN / width, (top - _HEADING_IN + 0.12) / height, heading, fontsize=11, color="#444444", va="bottom", parse_math=False
        )
        for column, tile in enumerate(tiles):
            left = _SIDE_IN + column * (_CELL_IN + _GAP_IN)
            _draw(figure, tile, scale, left, top - _HEADING_IN)
        top -= row_in
    right = _SIDE_IN + columns * (_CELL_IN + _GAP_IN)
    with_masks = any(tile.mask is not None for _, tiles in rows for tile in tiles)
    draw_bar(figure, scale, right + 0.25, height - _TITLE_IN - _HEADING_IN, 2 * _CELL_IN + _GAP_IN, "ground truth" if with_masks else "")
    figure.text(_SIDE_IN / width, 0.22 / height, FOOTER, fontsize=8.5, color="#666666", va="center")
    return write_whole(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))


def _draw(figure: Figure, tile: Tile, scale: ColourScale, left: float, top: float) -> None:
    page_width, page_height = figure.get_size_inches()
    row_mm, column_mm = tile.spacing_mm or (1.0, 1.0)
    plain = rgb_image(tile.image)
    for pixels in (plain, scale.overlay(tile.image, tile.anomaly_map)):
        axes = bare_axes(figure, left, top, _CELL_IN, _CELL_IN)
        axes.imshow(pixels, interpolation="bilinear", aspect=row_mm / column_mm)
        if pixels is plain:
            draw_sides(axes, pixels.shape[1], tile.spacing_mm, tile.edges)
        top -= _CELL_IN + _GAP_IN
    if tile.mask is not None:
        draw_contour(axes, binary_mask(tile.mask, pixels.shape[:2]))
    lines = ((caption("", tile.slice_index, tile.score, tile.p_value), 8.5, 0.08, "black"), (tile.series, 7, 0.24, "#666666"))
    for text, size, drop_in, colour in lines:
        x, y = (left + _CELL_IN / 2) / page_width, (top - drop_in) / page_height
        figure.text(x, y, _short(text), fontsize=size, color=colour, ha="center", va="center", parse_math=False)


def _short(text: str, longest: int = 36) -> str:
    return text if len(text) <= longest else f"{text[:10]}\u2026{text[len(text) - longest + 11 :]}"
