"""Intensities by what they mean, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms import CT_WINDOWS_HU, ScaleIntensityByModalityd
from monai_anomaly.transforms.intensity import PRESETS


def volume(array, dtype=torch.float32, **meta):
    return MetaTensor(torch.as_tensor(array).to(dtype), meta=meta)


def rng():
    return np.random.default_rng(0)


def scale(image, **options):
    out = ScaleIntensityByModalityd("image", **options)({"image": image})
    assert out["image"].dtype == torch.float32
    return out["image"], out["intensity"]


def by_percentiles(values):
    low, high = np.percentile(values, [0.5, 99.5])
    return np.clip((values - low) / (high - low), 0, 1)


def by_window(hu, low, high):
    return np.clip((hu - low) / (high - low), 0, 1)


HU = {"modality": "CT", "units": "HU", "value_range": ()}


@pytest.mark.parametrize("preset", ["auto", "image", "oct", "us"])
@pytest.mark.parametrize("high", [255, 4095, 65535])
def test_image_files_by_storage_range(high, preset):
    pixels = rng().integers(0, high // 2, (3, 5, 4, 1))  # a dark image stays dark
    out, words = scale(volume(pixels, value_range=(0, high), modality=""), preset=preset)
    np.testing.assert_allclose(out, pixels / high, atol=1e-6)
    assert words == f"{ {'oct': 'OCT', 'us': 'US'}.get(preset, 'image') } storage range 0 to {high}"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.float16, torch.float64])
def test_any_type_of_number(dtype):
    values = rng().integers(0, 200, (1, 30, 20, 4))
    np.testing.assert_allclose(scale(volume(values, dtype, value_range=(0, 255)))[0], values / 255, atol=1e-6)
    np.testing.assert_allclose(scale(volume(values, dtype, modality="MR"))[0], by_percentiles(values), atol=1e-5)
    np.testing.assert_allclose(scale(volume(values, dtype, **HU))[0], by_window(values, 0, 80), atol=1e-6)


@pytest.mark.parametrize("window", [*CT_WINDOWS_HU, (10.0, 20.0), [10, 20], ["lung"]])
def test_ct_windows(window):
    low, high = (10, 20) if window in ([10, 20], (10.0, 20.0)) else CT_WINDOWS_HU[window if isinstance(window, str) else window[0]]
    hu = rng().uniform(-2000, 2000, (1, 9, 9, 3))
    out, words = scale(volume(hu, modality="CT", value_range=()), ct_window=window)
    np.testing.assert_allclose(out, by_window(hu, low, high), atol=1e-4)
    assert words.startswith("CT window ") and words.endswith(f"{low:g} to {high:g} HU")


@pytest.mark.parametrize("preset", ["auto", "ct"])
def test_three_windows_are_three_channels_in_their_order(preset):
    hu = rng().uniform(-2000, 2000, (1, 9, 8, 3))
    out, words = scale(volume(hu, **HU), preset=preset, ct_window=["bone", [0, 40], "brain"])
    expected = np.concatenate([by_window(hu, -500, 1300), by_window(hu, 0, 40), by_window(hu, 0, 80)])
    np.testing.assert_allclose(out, expected, atol=1e-4)
    assert words == "CT windows bone -500 to 1300, 0 to 40, brain 0 to 80 HU"


def test_several_windows_leave_other_images_alone():
    windows = ["brain", "subdural", "bone"]
    values = rng().gamma(2.0, 300.0, (1, 20, 20, 3))
    for meta in ({"modality": "MR", "units": ""}, {"modality": "CT", "units": ""}, {}):
        out, _ = scale(volume(values, **meta), ct_window=windows)
        assert out.shape == values.shape
        np.testing.assert_allclose(out, by_percentiles(values), atol=1e-4)
    with pytest.raises(DataError, match="3 channels; expected 1 for several windows"):
        scale(volume(np.zeros((3, 4, 4, 1)), **HU), ct_window=windows)


def test_usual_levels_and_widths():
    assert {name: ((a + b) / 2, b - a) for name, (a, b) in CT_WINDOWS_HU.items()} == {
        "brain": (40, 80), "subdural": (50, 200), "lung": (-600, 1500), "bone": (400, 1800), "soft_tissue": (50, 400),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"value_range": (0, 255), "units": "HU", "modality": "CT"}, "image storage range 0 to 255"),
        ({"value_range": torch.tensor([0, 255]), "modality": "DX"}, "image storage range 0 to 255"),
        ({"value_range": (), "units": "HU", "modality": "CT"}, "CT window brain 0 to 80 HU"),
        ({"modality": "CT"}, "CT window brain 0 to 80 HU"),
        ({"units": "", "modality": "CT"}, "MR percentiles 0.5 to 99.5"),
        *(({"units": "", "modality": name}, "XR percentiles 0.5 to 99.5") for name in ("CR", "DX", "MG", "RF", "XA")),
        *(({"units": "", "modality": name}, "MR percentiles 0.5 to 99.5") for name in ("MR", "PT", "NM", "US", "OPT", "")),
        ({}, "MR percentiles 0.5 to 99.5"),
    ],
)
def test_the_file_chooses_the_preset(meta, expected):
    values = rng().uniform(0, 200, (1, 12, 11, 2))
    out, words = scale(volume(values, **meta))
    assert words == expected
    truth = values / 255 if "storage" in words else by_window(values, 0, 80) if "CT" in words else by_percentiles(values)
    np.testing.assert_allclose(out, truth, atol=1e-5)


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset not in ("auto", "ct")])
def test_a_named_preset_without_storage_range_takes_percentiles(preset):
    values = rng().gamma(2.0, 300.0, (1, 30, 30, 6))
    values[0, 0, 0, 0] = 1e6
    for meta in (HU, {"modality": "MR"}):
        out, words = scale(volume(values, **meta), preset=preset)
        np.testing.assert_allclose(out, by_percentiles(values), atol=1e-4)
        assert words == f"{'image' if preset == 'image' else preset.upper()} percentiles 0.5 to 99.5"


@pytest.mark.parametrize("preset", ["mr", "xr"])
def test_named_percentiles_go_before_the_storage_range(preset):
    pixels = rng().integers(50, 90, (1, 30, 30, 1))
    np.testing.assert_allclose(scale(volume(pixels, value_range=(0, 255)), preset=preset)[0], by_percentiles(pixels), atol=1e-6)


@pytest.mark.parametrize("meta", [{"modality": "MR"}, {"modality": "CT", "units": ""}, {"modality": "", "value_range": (0, 255)}])
def test_preset_ct_wants_hounsfield_units(meta):
    with pytest.raises(DataError, match=rf"modality {meta['modality'] or 'not given'}\); expected a CT in HU"):
        scale(volume(np.zeros((1, 4, 4, 2)), **meta), preset="ct")


def test_a_constant_volume_is_black():
    for value in (7, 0, -1024, 1e20):
        out, words = scale(volume(np.full((1, 4, 4, 2), value), modality="MR"))
        assert torch.equal(out.as_tensor(), torch.zeros(1, 4, 4, 2))
        assert words.endswith("(one value everywhere: black)")


def test_a_nearly_constant_volume_goes_from_lowest_to_highest():
    values = np.full((1, 40, 40, 2), 3.0)
    values[0, 5, 5:8, 0] = 5, 7, 11
    out, words = scale(volume(values, modality="MR"))
    np.testing.assert_allclose(out, (values - 3) / 8, atol=1e-6)
    assert words.endswith("(equal: lowest to highest value)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("meta", [{"modality": "MR"}, HU, {"value_range": (0, 255)}])
def test_values_that_are_no_measurement_are_refused(bad, meta):
    values = np.zeros((1, 4, 4, 130))  # the one in the middle of many slices
    values[0, 2, 2, 70] = bad
    with pytest.raises(DataError, match="expected finite numbers"):
        scale(volume(values, **meta))


@pytest.mark.parametrize("bad", [-1, 256])
def test_values_outside_the_storage_range_are_refused(bad):
    with pytest.raises(DataError, match=r"outside its storage range 0 to 255"):
        scale(volume(np.full((1, 2, 2, 1), bad), value_range=(0, 255)))


def test_large_volumes_by_a_sample():
    """6.6 million voxels whose contrast changes from slice to slice, of a size at which every n-th voxel would be in the same few slices."""
    random = rng()
    values = (random.gamma(2.0, 1.0, (1, 320, 320, 64)) * np.linspace(50, 500, 64)).astype(np.float32)
    out, _ = scale(volume(values, modality="MR"))
    low, high = np.percentile(values, [0.5, 99.5])
    inside = (out[0, :, :, 40] > 0.001) & (out[0, :, :, 40] < 0.999)
    slope, start = np.polyfit(out[0, :, :, 40][inside].numpy(), values[0, :, :, 40][inside], 1)
    assert start == pytest.approx(low, abs=0.002 * (high - low)) and start + slope == pytest.approx(high, rel=0.01)
    assert torch.equal(out, scale(volume(values, modality="MR"))[0])


@pytest.mark.parametrize(
    "window", ["liver", (5, 5), (80, 0), (1, 2, 3), None, [], [0, np.inf], ["brain", "liver", "bone"], ["brain", [5, 5], "bone"], 40]
)
def test_unknown_window(window):
    with pytest.raises(OptionError, match="expected one of brain"):
        ScaleIntensityByModalityd("image", ct_window=window)


@pytest.mark.parametrize("window", [["brain", "bone"], [[0, 80], "bone"], ["brain"] * 4])
def test_one_or_three_windows(window):
    with pytest.raises(OptionError, match=rf"names {len(window)} windows; expected one or three"):
        ScaleIntensityByModalityd("image", ct_window=window)


@pytest.mark.parametrize("preset", ["CT", "pet", "", None])
def test_unknown_preset(preset):
    with pytest.raises(OptionError, match="expected one of auto, ct, mr, xr, oct, us, image"):
        ScaleIntensityByModalityd("image", preset=preset)


def test_metadata_stay_and_plain_tensors_do():
    image = volume(rng().uniform(0, 100, (1, 5, 5, 2)), **HU, note="kept")
    out, _ = scale(image, ct_window=["brain", "lung", "bone"])
    assert out.meta["note"] == "kept" and torch.equal(out.affine, image.affine)
    plain, words = scale(torch.rand(1, 9, 9, 2))
    assert type(plain) is torch.Tensor and words == "MR percentiles 0.5 to 99.5"
    assert torch.equal(scale(np.eye(9)[None, :, :, None])[0], scale(torch.eye(9)[None, :, :, None])[0])
