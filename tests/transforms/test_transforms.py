"""Empty slices, channels, and the transforms in a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, NormalizeIntensityd

from monai_anomaly.errors import DataError
from monai_anomaly.transforms import MarkEmptySlicesd, OrientSlicesd, ResizeSlicesd, ScaleIntensityByModalityd, ToRGBd


def volume(array, **meta):
    return MetaTensor(torch.as_tensor(array, dtype=torch.float32), meta=meta)


def rng():
    return np.random.default_rng(0)


def test_empty_by_the_stated_rule():
    image = torch.full((3, 10, 30, 5), 0.4)
    image[0, 0, :3, 1] += 0.021  # 3 of 300 pixels: 1 %, not fewer
    image[0, 0, :2, 2] += 0.021
    image[..., 3] += 0.02 * torch.rand(3, 10, 30)
    image[2, :, :, 4] = torch.rand(10, 30)
    assert MarkEmptySlicesd("image")({"image": image})["empty"].tolist() == [True, False, True, True, False]


def test_to_rgb():
    grey = torch.rand(1, 4, 4, 2)
    assert torch.equal(ToRGBd("image")({"image": grey})["image"], grey.repeat(3, 1, 1, 1))
    colour = torch.rand(3, 4, 4, 2)
    assert torch.equal(ToRGBd("image")({"image": colour})["image"], colour)
    for shape in ((4, 5), (4, 5, 2), (4, 5, 2, 2)):  # one slice, a volume, one with an axis more
        picture = torch.rand(1, *shape)
        assert torch.equal(ToRGBd("image")({"image": picture})["image"], torch.cat([picture] * 3))
        assert torch.equal(ToRGBd("image")({"image": MetaTensor(picture)})["image"].as_tensor(), torch.cat([picture] * 3))
    with pytest.raises(DataError, match="2 channels"):
        ToRGBd("image")({"image": torch.rand(2, 4, 4, 1)})


def test_empty_slices_are_found_in_every_block():
    image = torch.zeros(1, 20, 20, 150)
    full = [3, 63, 64, 149]
    image[:, 5:10, 5:10, full] = 0.5
    assert (~MarkEmptySlicesd("image")({"image": image})["empty"]).nonzero().flatten().tolist() == full


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


@pytest.mark.parametrize(
    "transform", [OrientSlicesd, ScaleIntensityByModalityd, MarkEmptySlicesd, ToRGBd, lambda key, **kw: ResizeSlicesd(key, 4, **kw)]
)
def test_missing_keys(transform):
    with pytest.raises(KeyError):
        transform("image")({})
    assert transform("image", allow_missing_keys=True)({}) == {}
