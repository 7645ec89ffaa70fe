"""Resizing, against Pillow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms import ResizeSlicesd

AFFINE = torch.tensor([[0.0, -0.8, 0.0, 10.0], [-0.5, 0.0, 0.0, 20.0], [0.0, 0.0, 2.5, -30.0], [0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)


def volume(array, **meta):
    return MetaTensor(torch.as_tensor(array, dtype=torch.float32), meta=meta)


def rng():
    return np.random.default_rng(0)


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


def pair(mask_array, mask_affine):
    image = MetaTensor(torch.zeros(1, 6, 5, 4), affine=AFFINE)
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


def test_masks_follow_the_first_of_several_images():
    both = pair(np.zeros((6, 5, 4)), AFFINE)
    both["other"] = MetaTensor(torch.zeros(1, 5, 6, 4), affine=AFFINE[:, [1, 0, 2, 3]])
    out = ResizeSlicesd(["image", "other", "mask"], 30)(both)
    torch.testing.assert_close(out["mask"].affine, out["image"].affine)


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


@pytest.mark.parametrize("n", [1, 63, 64, 65, 150])
def test_blocks_of_slices_leave_no_trace(n):
    stack = torch.rand(2, 20, 30, n)
    mask = (torch.rand(1, 20, 30, n) > 0.95).float()
    out = ResizeSlicesd(["image", "mask"], 16)({"image": stack, "mask": mask})
    for k in range(n):
        alone = ResizeSlicesd(["image", "mask"], 16)({"image": stack[..., k : k + 1], "mask": mask[..., k : k + 1]})
        torch.testing.assert_close(out["image"][..., k : k + 1], alone["image"])
        assert torch.equal(out["mask"][..., k : k + 1], alone["mask"])
    assert out["mask_any"].tolist() == [bool(mask[..., k].any()) for k in range(n)]


MEASURE = """
import pathlib, re, torch
from monai_anomaly.transforms import ResizeSlicesd
def peak():  # of this process alone: getrusage would begin with the peak of the process that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
image = torch.randint(0, 255, (1, 512, 512, 320), dtype=torch.uint8)
ResizeSlicesd("image", 256)({"image": image[..., :64]})
before = peak()
ResizeSlicesd("image", 256)({"image": image})
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_no_second_volume_at_full_resolution():
    """A float copy of this volume would take 320 MiB; the result, which is needed, has 80."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 160 * 1024


@pytest.mark.parametrize("size", [0, -4])
def test_size_below_one(size):
    with pytest.raises(OptionError, match="expected 1 or more pixels"):
        ResizeSlicesd("image", size)
