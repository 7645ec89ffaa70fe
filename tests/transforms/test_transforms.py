"""Intensity, empty slices, resizing and channels, against Pillow and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensityd
from PIL import Image

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms import CT_WINDOWS_HU, MarkEmptySlicesd, ResizeSlicesd, ScaleIntensityByModalityd, ToRGBd

AFFINE = torch.tensor([[0.0, -0.8, 0.0, 10.0], [-0.5, 0.0, 0.0, 20.0], [0.0, 0.0, 2.5, -30.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)


def volume(array, **meta):
    return MetaTensor(torch.as_tensor(array, dtype=torch.float32), meta=meta)


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("high", [255, 65535])
def test_image_files_by_storage_range(high):
    pixels = rng().integers(0, high // 2, (3, 5, 4, 1))  # a dark image stays dark
    out = ScaleIntensityByModalityd("image")({"image": volume(pixels, value_range=(0, high), modality="")})
    np.testing.assert_allclose(out["image"], pixels / high, atol=1e-6)
    assert out["intensity"] == f"storage range 0 to {high}"


@pytest.mark.parametrize("window", [*CT_WINDOWS_HU, (10.0, 20.0)])
def test_ct_windows(window):
    low, high = CT_WINDOWS_HU.get(window, window)
    hu = rng().uniform(-2000, 2000, (1, 9, 9, 3))
    out = ScaleIntensityByModalityd("image", ct_window=window)({"image": volume(hu, modality="CT", value_range=())})
    np.testing.assert_allclose(out["image"], np.clip((hu - low) / (high - low), 0, 1), atol=1e-4)


def test_usual_levels_and_widths():
    assert {name: ((a + b) / 2, b - a) for name, (a, b) in CT_WINDOWS_HU.items()} == {
        "brain": (40, 80), "subdural": (50, 200), "lung": (-600, 1500), "bone": (400, 1800), "soft_tissue": (50, 400),
    }  # fmt: skip


def test_other_volumes_by_percentiles_of_the_volume():
    values = rng().gamma(2.0, 300.0, (1, 30, 30, 6))
    values[0, 0, 0, 0] = 1e6
    out = ScaleIntensityByModalityd("image")({"image": volume(values, modality="MR")})
    low, high = np.percentile(values, [0.5, 99.5])
    np.testing.assert_allclose(out["image"], np.clip((values - low) / (high - low), 0, 1), atol=1e-4)


def test_a_constant_volume_is_black():
    out = ScaleIntensityByModalityd("image")({"image": volume(np.full((1, 4, 4, 2), 7), modality="MR")})
    assert float(out["image"].abs().max()) == 0


@pytest.mark.parametrize("window", ["liver", (5, 5), (1, 2, 3), None])
def test_unknown_window(window):
    with pytest.raises(OptionError, match="expected one of brain"):
        ScaleIntensityByModalityd("image", ct_window=window)


def test_empty_by_the_stated_rule():
    image = torch.full((3, 10, 30, 5), 0.4)
    image[0, 0, :3, 1] += 0.021  # 3 of 300 pixels: 1 %, not fewer
    image[0, 0, :2, 2] += 0.021
    image[..., 3] += 0.02 * torch.rand(3, 10, 30)
    image[2, :, :, 4] = torch.rand(10, 30)
    assert MarkEmptySlicesd("image")({"image": image})["empty"].tolist() == [True, False, True, True, False]


@pytest.mark.parametrize("shape", [(300, 200), (64, 64), (40, 500), (17, 23)])
def test_resize_equals_pillow(shape):
    stack = rng().random((2, *shape, 3)).astype(np.float32)
    out = ResizeSlicesd("image", 64)({"image": stack})["image"]
    assert out.shape == (2, 64, 64, 3)
    for c in range(2):
        for s in range(3):
            expected = np.asarray(Image.fromarray(stack[c, :, :, s]).resize((64, 64), Image.Resampling.BILINEAR))
            np.testing.assert_allclose(out[c, :, :, s], expected, atol=1e-2)
            assert np.abs(out[c, :, :, s].numpy() - expected).mean() < 1e-4


def test_same_size_is_left_as_it_is():
    stack = torch.rand(1, 64, 64, 2)
    assert torch.equal(ResizeSlicesd("image", 64)({"image": stack})["image"], stack)


def test_masks_are_nearest_and_stay_binary():
    mask = np.zeros((1, 100, 80, 2), np.float32)
    mask[0, 20:61, 10:33, 1] = 255
    out = ResizeSlicesd(["image", "mask"], 32)({"image": np.zeros_like(mask), "mask": volume(mask, value_range=(0, 255))})
    expected = np.asarray(Image.fromarray(mask[0, :, :, 1]).resize((32, 32), Image.Resampling.NEAREST)) > 0
    np.testing.assert_array_equal(out["mask"][0, :, :, 1], expected)
    assert out["mask"].unique().tolist() == [0, 1] and out["mask_any"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("values", "meta", "expected"),
    [
        ([0, 1, 0, 1], {"value_range": (0, 255), "source_format": "PNG"}, [0, 1, 0, 1]),
        ([0, 3, 127, 128], {"value_range": (0, 255), "source_format": "PNG"}, [0, 0, 0, 1]),
        ([0, 1, 2, 3], {"value_range": (0, 255), "source_format": "PNG"}, [0, 1, 1, 1]),  # class numbers
        ([0, 1, 2, 9], {"value_range": (0, 255), "source_format": "JPEG"}, [0, 0, 0, 0]),
        ([0, 1, 200, 65535], {"value_range": (0, 65535)}, [0, 1, 1, 1]),
        ([0, 1, 2, 200], {"value_range": ()}, [0, 1, 1, 1]),
    ],
)
def test_where_masks_are_cut(values, meta, expected):
    mask = volume(np.reshape(values, (1, 2, 2, 1)), **meta)
    assert ResizeSlicesd("mask", 2)({"mask": mask})["mask"].flatten().tolist() == expected


def test_coloured_masks():
    mask = np.zeros((3, 2, 2, 1))
    mask[0, 0, 1, 0] = 255
    assert ResizeSlicesd("mask", 2)({"mask": volume(mask, value_range=(0, 255))})["mask"].flatten().tolist() == [0, 1, 0, 0]


def pair(mask_array, mask_affine, shape=(6, 5, 4)):
    image = MetaTensor(torch.zeros(1, *shape), affine=AFFINE)
    return {
        "image": image,
        "mask": MetaTensor(torch.as_tensor(np.ascontiguousarray(mask_array))[None], affine=torch.as_tensor(mask_affine)),
    }


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_a_mask_in_another_voxel_order_is_brought_back(axes, flips):
    truth = (rng().random((6, 5, 4)) > 0.5).astype(np.float32)
    other, affine = truth, AFFINE.numpy().copy()
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (truth.shape[axis] - 1)
        affine[:3, axis] *= -1
        other = np.flip(other, axis)
    other, affine = other.transpose(axes), affine[:, [*axes, 3]]
    out = ResizeSlicesd(["image", "mask"], 30)(pair(other, affine))
    expected = ResizeSlicesd("mask", 30)({"mask": truth[None]})["mask"]
    assert torch.equal(out["mask"].as_tensor(), expected)


def test_a_mask_beside_the_image_is_refused():
    shifted = AFFINE.numpy().copy()
    shifted[0, 3] += 0.4
    with pytest.raises(DataError, match=r"0.50 voxels beside"):
        ResizeSlicesd(["image", "mask"], 30)(pair(np.zeros((6, 5, 4)), shifted))
    with pytest.raises(DataError, match=r"\(6, 5, 3\), the image \(6, 5, 4\)"):
        ResizeSlicesd(["image", "mask"], 30)(pair(np.zeros((6, 5, 3)), AFFINE))


def test_the_affine_follows():
    image = MetaTensor(torch.rand(1, 40, 20, 3), affine=AFFINE)
    out = ResizeSlicesd("image", 10)({"image": image})["image"]
    for corner in ([-0.5, -0.5, 0, 1], [1.0, 1.0, 1.0, 1.0]):
        small = torch.tensor(corner, dtype=torch.float64)
        large = torch.tensor([(corner[0] + 0.5) * 4 - 0.5, (corner[1] + 0.5) * 2 - 0.5, corner[2], 1], dtype=torch.float64)
        torch.testing.assert_close(out.affine @ small, AFFINE @ large)


def test_to_rgb():
    grey = torch.rand(1, 4, 4, 2)
    assert torch.equal(ToRGBd("image")({"image": grey})["image"], grey.repeat(3, 1, 1, 1))
    colour = torch.rand(3, 4, 4, 2)
    assert torch.equal(ToRGBd("image")({"image": colour})["image"], colour)
    with pytest.raises(DataError, match="2 channels"):
        ToRGBd("image")({"image": torch.rand(2, 4, 4, 1)})


def test_normalises_after_them():
    grey = torch.rand(1, 8, 8, 5)
    chain = Compose(
        [ToRGBd("image"), NormalizeIntensityd("image", subtrahend=[0.485, 0.456, 0.406], divisor=[0.229, 0.224, 0.225], channel_wise=True)]
    )
    out = chain({"image": grey})["image"]
    for c, (mean, std) in enumerate(zip([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])):
        torch.testing.assert_close(out[c].as_tensor(), (grey[0] - mean) / std)


def test_input_is_not_changed():
    image = volume(rng().integers(0, 255, (1, 9, 9, 2)), value_range=(0, 255))
    before = image.clone()
    Compose([ScaleIntensityByModalityd("image"), MarkEmptySlicesd("image"), ResizeSlicesd("image", 4), ToRGBd("image")])({"image": image})
    assert torch.equal(image, before)


@pytest.mark.parametrize("transform", [ScaleIntensityByModalityd, MarkEmptySlicesd, ToRGBd, lambda key, **kw: ResizeSlicesd(key, 4, **kw)])
def test_missing_keys(transform):
    with pytest.raises(KeyError):
        transform("image")({})
    assert transform("image", allow_missing_keys=True)({}) == {}
