"""Slices beside each other: sides, bar in mm, map, outline."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.report import Picture, show_pictures


def drawn(figure: Figure) -> np.ndarray:
    """Pixels of the page, ``(H, W, 3)``."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


def bar_mm(figure: Figure, n_columns: int, column_mm: float) -> float:
    """Length of the white bar, measured in the figure."""
    axes = figure.axes[0]
    (line,) = [line for line in axes.lines if line.get_color() == "white"]
    x = line.get_xdata()
    return (x[1] - x[0]) * n_columns * column_mm


@pytest.mark.parametrize("column_mm, n_columns, length", [(0.5, 256, 20), (0.9, 256, 50), (0.01, 512, 1), (3.0, 40, 20)])
def test_the_bar_is_as_long_as_it_says_and_at_most_a_third_of_the_picture(column_mm, n_columns, length):
    figure = show_pictures([Picture(np.zeros((1, n_columns // 2, n_columns)), spacing_mm=(2 * column_mm, column_mm))])
    assert bar_mm(figure, n_columns, column_mm) == pytest.approx(length)
    assert f"{length} mm" in [text.get_text() for text in figure.axes[0].texts]
    assert length <= n_columns * column_mm / 3


@pytest.mark.parametrize("rows, has_bar", [(24, True), (22, False)])
def test_a_picture_that_is_too_low_for_a_bar_has_none(rows, has_bar):
    """At 2.2 inches a side, 0.5 inches are 23 of 100 rows."""
    axes = show_pictures([Picture(np.zeros((1, rows, 100)), spacing_mm=(1.0, 1.0), edges="SIRL")]).axes[0]
    assert bool(axes.lines) == has_bar and len(axes.texts) == 4 + has_bar


def test_without_spacing_there_is_no_bar_and_without_edges_no_letters():
    axes = show_pictures([Picture(np.zeros((1, 30, 30)))]).axes[0]
    assert not axes.lines and not axes.texts


def test_edges_stand_where_they_belong():
    axes = show_pictures([Picture(np.zeros((1, 30, 30)), edges="APRL")]).axes[0]
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert places["A"][1] > 0.9 and places["P"][1] < 0.1 and places["R"][0] < 0.1 and places["L"][0] > 0.9


def test_thick_rows_make_a_tall_picture():
    figure = show_pictures([Picture(np.ones((1, 20, 100)), spacing_mm=(5.0, 1.0))])
    page = drawn(figure)
    rows = np.flatnonzero((page == 255).all(axis=2).any(axis=1))
    axes = figure.axes[0]
    assert axes.get_aspect() == 5.0 and rows.size  # 20 rows of 5 mm are as long as 100 columns of 1 mm
    box = axes.get_window_extent()
    assert box.width == pytest.approx(box.height, rel=0.02)


def test_all_pictures_share_the_scale_of_the_model():
    image = np.full((1, 16, 16), 0.3)
    figure = show_pictures([Picture(image, np.full((16, 16), value)) for value in (0.0, 1.0, 5.0)], (0.0, 1.0))
    cool, hot, hotter = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3])
    assert (cool == 77).all() and (hot != 77).any()
    np.testing.assert_array_equal(hot, hotter)
    assert len(figure.axes) == 4  # the bar, once


@pytest.mark.parametrize("side_in, told", [(1.4, "anomaly map,\na scale for each"), (2.4, "anomaly map, a scale for each")])
def test_the_bar_is_told_what_it_is_of(side_in, told):
    picture = Picture(np.zeros((1, 16, 16)), np.zeros((16, 16)))
    figure = show_pictures([picture], (0.0, 1.0), side_in=side_in, scale_label="anomaly map, a scale for each")
    assert figure.axes[-1].get_ylabel() == told


def test_a_mask_is_outlined():
    inside = np.zeros((32, 32), dtype=bool)
    inside[8:20, 10:24] = True
    (lines,) = show_pictures([Picture(np.zeros((1, 32, 32)), mask=inside)]).axes[0].collections
    (path,) = lines.get_paths()
    low, high = path.get_extents().get_points()
    np.testing.assert_allclose([low, high], [[9.5, 7.5], [23.5, 19.5]])


@pytest.mark.parametrize(
    "pictures, value_range, error",
    [
        ([], None, OptionError),
        ([Picture(np.zeros((1, 8, 8)), np.zeros((8, 8)))], None, OptionError),
        ([Picture(np.zeros((1, 8, 8)), np.zeros((9, 8)))], (0.0, 1.0), DataError),
        ([Picture(np.zeros((1, 8, 8)), edges="RL")], None, OptionError),
        ([Picture(np.zeros((2, 8, 8)))], None, DataError),
    ],
)
def test_what_cannot_be_drawn_is_refused(pictures, value_range, error):
    with pytest.raises(error):
        show_pictures(pictures, value_range)


@pytest.mark.parametrize("side_in", [1.0 + step / 37 for step in range(12)])
def test_left_keeps_its_foot_and_does_not_read_as_inferior(side_in):
    figure = show_pictures([Picture(np.zeros((1, 64, 64)), edges="APRL", title="\n" * int(37 * side_in % 3))], side_in=side_in)
    figure.canvas.draw()
    bright = np.asarray(figure.canvas.buffer_rgba())[..., 0] > 110
    picture = bright[-round(0.9 * side_in * 90) :]
    letter = picture[len(picture) // 3 : len(picture) * 3 // 4, -round(0.16 * side_in * 90) : -2]
    assert letter.sum(axis=1).max() >= 4 and letter.sum(axis=0).max() >= 5
