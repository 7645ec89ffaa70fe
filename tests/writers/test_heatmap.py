"""The picture of a slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anomaly.errors import DataError
from monai_anomaly.writers import ColourScale, caption, rgb_image, write_heatmap

RNG = np.random.default_rng(0)
IMAGE, MAP = RNG.random((3, 256, 300), dtype=np.float32), RNG.random((256, 300), dtype=np.float32)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.asarray(picture)


def test_image_on_the_left_heat_map_on_the_right(tmp_path: Path) -> None:
    picture = read(write_heatmap(tmp_path / "new" / "a.png", IMAGE, MAP, (0.0, 1.0)))
    np.testing.assert_array_equal(picture[:256, :300], rgb_image(IMAGE))
    np.testing.assert_array_equal(picture[:256, 306:606], ColourScale(0.0, 1.0).overlay(IMAGE, MAP))
    assert picture[256:, :606].max() == 0  # no caption was asked for


def test_the_scale_is_the_models(tmp_path: Path) -> None:
    cool = read(write_heatmap(tmp_path / "a.png", IMAGE, np.minimum(MAP, 0.5), (0.0, 1.0)))
    hot = read(write_heatmap(tmp_path / "b.png", IMAGE, MAP, (0.0, 1.0)))
    same = np.argwhere(MAP <= 0.5)
    np.testing.assert_array_equal(cool[:256, 306:606][tuple(same.T)], hot[:256, 306:606][tuple(same.T)])
    np.testing.assert_array_equal(cool[:256, 606:], hot[:256, 606:])
    assert (read(write_heatmap(tmp_path / "c.png", IMAGE, MAP, (0.0, 2.0)))[:256, 306:606] != hot[:256, 306:606]).any()


def test_the_caption_is_drawn(tmp_path: Path) -> None:
    plain = read(write_heatmap(tmp_path / "a.png", IMAGE, MAP, (0.0, 1.0)))
    full = read(write_heatmap(tmp_path / "b.png", IMAGE, MAP, (0.0, 1.0), series="s07", slice_index=3, score=0.5, p_value=0.04))
    assert full[256:, :200].max() > 200
    np.testing.assert_array_equal(plain[:256], full[:256])


def test_small_images_are_enlarged_and_long_captions_fit(tmp_path: Path) -> None:
    picture = read(write_heatmap(tmp_path / "a.png", IMAGE[:1, :64, :64], MAP[:64, :64], (0.0, 1.0), series="x" * 3000))
    np.testing.assert_array_equal(picture[:256:4, :256:4], rgb_image(IMAGE[:1, :64, :64]))
    assert picture.shape[0] == 256 + 18


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ({}, ""),
        ({"series": "s07", "slice_index": 0}, "s07  slice 0"),
        ({"score": 12.3456, "p_value": 1.0}, "score 12.3  p 1.000"),
        ({"p_value": 0.00012}, "p 1.2e-04"),
    ],
)
def test_caption_says_what_is_known(known: dict[str, object], text: str) -> None:
    assert caption(**known) == text  # type: ignore[arg-type]


def test_nothing_is_written_when_shapes_differ(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="anomaly map has shape"):
        write_heatmap(tmp_path / "a.png", IMAGE, MAP[:100], (0.0, 1.0))
    assert not list(tmp_path.iterdir())
