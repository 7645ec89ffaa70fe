"""What holds for every pseudo-anomaly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.transforms.pseudo import CutPaste, GaussianPatch, PerlinPatch, RectangleCutPaste, ScarCutPaste, SimplexPatch

KINDS = {
    "cut_paste": CutPaste,
    "rectangle": RectangleCutPaste,
    "scar": ScarCutPaste,
    "simplex": SimplexPatch,
    "gaussian": GaussianPatch,
    "perlin": PerlinPatch,
}
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
each_kind = pytest.mark.parametrize("kind", KINDS)


def images(batch=3, channels=3, height=64, width=64, dtype=torch.float32, seed=0):
    return torch.rand((batch, channels, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@each_kind
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("shape", [(64, 64), (48, 100), (256, 130), (33, 32)])
def test_images_and_masks(kind, device, dtype, channels, shape):
    image = images(4, channels, *shape, dtype=dtype).to(device)
    before = image.clone()
    out = KINDS[kind]()(image, generator())
    assert out.image.shape == image.shape and out.image.dtype == dtype and out.image.device == image.device
    assert out.mask.shape == (4, 1, *shape) and out.mask.dtype == torch.bool and out.mask.device == image.device
    assert torch.equal(image, before) and out.image.data_ptr() != image.data_ptr()
    changed = (out.image != image).any(dim=1, keepdim=True)
    assert torch.equal(changed, out.mask)  # outside the mask bit for bit the same, inside not
    assert out.mask.flatten(1).any(dim=1).all() and not out.mask.flatten(1).all(dim=1).any()
    assert out.image.min() >= 0 and out.image.max() <= 1
    assert ((out.image - image).abs().amax(dim=1, keepdim=True)[out.mask] > 0.005).all()


@each_kind
def test_one_seed_one_result(kind):
    anomaly, image = KINDS[kind](), images(4)
    first, again, other = (anomaly(image, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(first.image, again.image) and torch.equal(first.mask, again.mask)
    assert not torch.equal(first.mask, other.mask)
    state = generator(7)
    assert not torch.equal(anomaly(image, state).mask, anomaly(image, state).mask)  # the next batch is drawn on
    double = anomaly(image.double(), generator(7))
    assert torch.equal(double.mask, first.mask)
    torch.testing.assert_close(double.image.float(), first.image, rtol=0, atol=1e-5)


@each_kind
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("foreground", [None, 0.5])
def test_every_device_draws_the_same(kind, foreground):
    anomaly, image = KINDS[kind](foreground=foreground), images(8)
    here, there = anomaly(image, generator()), anomaly(image.cuda(), generator())
    torch.testing.assert_close(there.image.cpu(), here.image, rtol=0, atol=1e-5)
    assert (there.mask.cpu() != here.mask).float().mean() < 1e-3  # a change right at the tolerance


@each_kind
def test_no_global_state(kind):
    """With a generator nothing else is used; without one, torch's own is, and no other."""
    anomaly, image = KINDS[kind](), images()
    torch.manual_seed(5)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    anomaly(image, generator())
    assert torch.equal(torch.get_rng_state(), before)
    one = anomaly(image)
    assert not torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(anomaly(image).image, one.image)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)


@each_kind
def test_images_of_a_batch_differ(kind):
    """Each image has a size, a place and a texture of its own."""
    image = images(1).expand(6, -1, -1, -1)
    out = KINDS[kind]()(image, generator())
    assert len({mask.numpy().tobytes() for mask in out.mask}) == 6
    assert len({mask.sum().item() for mask in out.mask}) >= 3


@each_kind
def test_layouts_and_meta_tensors(kind):
    """Channels-last images and MONAI's tensors give what plain ones do."""
    image, anomaly = images(), KINDS[kind]()
    plain = anomaly(image, generator())
    for given in (image.to(memory_format=torch.channels_last), MetaTensor(image), image.clone().requires_grad_()):
        out = anomaly(given, generator())
        assert type(out.image) is torch.Tensor and not out.image.requires_grad
        assert torch.equal(out.image, plain.image) and torch.equal(out.mask, plain.mask)


@each_kind
def test_half_precision(kind):
    image = images(dtype=torch.bfloat16)
    out = KINDS[kind]()(image, generator())
    assert out.image.dtype == torch.bfloat16 and torch.equal((out.image != image).any(dim=1, keepdim=True), out.mask)


@each_kind
def test_from_a_config(kind):
    config = json.loads(json.dumps({"anomaly": {"_target_": f"monai_anomaly.transforms.pseudo.{KINDS[kind].__name__}", "foreground": 0.1}}))
    anomaly = ConfigParser(config).get_parsed_content("anomaly")
    assert type(anomaly) is KINDS[kind] and anomaly.foreground == 0.1


@each_kind
def test_tolerance_and_clip(kind):
    """A lower tolerance marks more pixels, and no tolerance those that differ at all."""
    image = images(8, channels=1)
    masks = [KINDS[kind](tolerance=t)(image, generator()).mask for t in (0.0, 0.05, 0.2)]
    assert masks[0].sum() > masks[1].sum() > masks[2].sum() and not (masks[2] & ~masks[0]).any()
    bright = images(8) * 0.2 + 0.8
    if kind == "scar":  # strips are small: all of them have to be bright enough somewhere
        bright = bright.clamp_min(0.97)
    out = KINDS[kind](clip=False)(bright, generator())
    assert out.image.max() > 1 and KINDS[kind]()(bright, generator()).image.max() <= 1


@each_kind
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"foreground": 1.0}, "foreground is 1.0"),
        ({"foreground": -0.1}, "foreground is -0.1"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
    ],
)
def test_common_options(kind, options, words):
    with pytest.raises(OptionError, match=words):
        KINDS[kind](**options)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("cut_paste", {"design_size": 0}, "design_size is 0"),
        ("cut_paste", {"sizes": []}, r"sizes is \[\]"),
        ("cut_paste", {"sizes": [[20, 10]], "weights": [1]}, "shortest, longest"),
        ("cut_paste", {"sizes": [10, 32]}, r"a list of pairs .* \[\[10, 32\]\]"),
        ("cut_paste", {"sizes": [[10, 32]], "weights": 1}, "a list of numbers"),
        ("cut_paste", {"weights": [1.0]}, "one number for each of the 3 sizes"),
        ("cut_paste", {"weights": [0, 0, 0]}, "not all 0"),
        ("cut_paste", {"weights": [1, -1, 1]}, "none below 0"),
        ("cut_paste", {"size_per": "pixel"}, "expected image or batch"),
        ("cut_paste", {"blend": 1.5}, "blend is 1.5"),
        ("rectangle", {"area": (0.2, 0.1)}, "area is"),
        ("rectangle", {"area": (0, 0.1)}, "area is"),
        ("rectangle", {"standing": (0, 1)}, "standing is"),
        ("rectangle", {"lying": (3, 1)}, "lying is"),
        ("rectangle", {"jitter": 0.6}, "jitter is 0.6"),
        ("scar", {"width": (0, 5)}, "width is"),
        ("scar", {"length": (9, 5)}, "length is"),
        ("scar", {"rotation_deg": 100}, "rotation_deg is 100"),
        ("scar", {"jitter": -0.1}, "jitter is -0.1"),
        ("simplex", {"size": (5,)}, r"size is \[5\]"),
        ("simplex", {"octaves": 0}, "octaves is 0"),
        ("simplex", {"octaves": 9}, "octaves is 9"),
        ("simplex", {"persistence": 0}, "persistence is 0"),
        ("simplex", {"feature_px": 0}, "feature_px is 0"),
        ("simplex", {"texture_seed": "x"}, "texture_seed is 'x'"),
        ("simplex", {"amplitude": 0}, "amplitude is 0"),
        ("gaussian", {"soft_edge_px": -1}, "soft_edge_px is -1"),
        ("perlin", {"octaves": 0}, "octaves is 0"),
    ],
)
def test_options_of_their_own(kind, options, words):
    with pytest.raises(OptionError, match=words):
        KINDS[kind](**options)


@pytest.mark.parametrize("kind", ["cut_paste", "scar", "simplex", "gaussian", "perlin"])
def test_images_smaller_than_the_largest_patch(kind):
    """Lengths are scaled with the image; told not to, or with no room left, the largest patch decides, whatever is drawn."""
    with pytest.raises(OptionError, match=r"do not fit into images of 20 x 300 pixels.*smaller sizes, set design_size"):
        KINDS[kind](design_size=None)(images(1, 1, 20, 300), generator())
    if kind != "scar":
        with pytest.raises(OptionError, match="do not fit into images of 2 x 2 pixels"):
            KINDS[kind]()(images(1, 1, 2, 2), generator())


@each_kind
def test_what_is_no_batch_of_images(kind):
    anomaly = KINDS[kind]()
    for wrong in (torch.rand(3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(0, 3, 64, 64)):
        with pytest.raises(DataError, match=r"expected floating-point images \(B, C, H, W\)"):
            anomaly(wrong, generator())
