"""Where CutPaste takes patches from and puts them, and what it does to them."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from monai_anomaly.transforms.pseudo import CutPaste, RectangleCutPaste, ScarCutPaste
from monai_anomaly.transforms.pseudo.jitter import box_mean, jitter_colours


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def boxes(mask):
    """Top, left, height, width of the box around each mask."""
    ends = []
    for line in (mask[:, 0].any(dim=2), mask[:, 0].any(dim=1)):
        first = line.int().argmax(dim=1)
        ends.append((first, line.shape[1] - line.flip(1).int().argmax(dim=1) - first))
    return torch.stack([part for pair in zip(*ends) for part in pair], dim=1).numpy()


def pastes(anomaly, batch, height=256, width=256):
    """Masks ``(B, H, W)``, boxes around them, and the source rows and columns of what was pasted ``(B, 2, H, W)``.

    Every pixel of the image says where it is: channel 0 its row, channel 1 its column.
    """
    address = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))
    image = (address / 1024).expand(batch, -1, -1, -1)
    out = anomaly(image, generator())
    source = ((out.image - anomaly.keep * image) * 1024).round().to(torch.int16)
    return boxes(out.mask), source, out.mask[:, 0]


def test_squares_of_three_classes_anywhere():
    """Sides, classes and places as stated; the shadow of the old pixels is a fifth."""
    found, source, mask = pastes(CutPaste(tolerance=0, clip=False), batch=400)
    side = found[:, 2:].max(axis=1)
    # Where a patch happens to leave a row or a column as it was, its mask looks shorter.
    assert (found[:, 2:] >= side[:, None] - 1).all()
    shares = [np.mean((side >= low) & (side <= high)) for low, high in ((10, 32), (64, 100), (150, 200))]
    assert math.isclose(sum(shares), 1)
    np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=4 * math.sqrt(0.25 / 400))
    assert len(set(side[side <= 32])) > 18 and side[side <= 32].min() == 10
    corners = np.array([[source[i, k][m].min() for k in (0, 1)] for i, m in enumerate(mask)])
    for k in (0, 1):
        assert found[:, k].min() >= 1 and (found[:, k] + side <= 255).all()  # uniform over 1..254-t
        assert kstest((found[:, k] - 0.5) / (254 - side), "uniform").pvalue > 1e-3
        assert (corners[:, k] + side <= 256).all()  # uniform over 0..255-t
        assert kstest((corners[:, k] + 0.5) / (256 - side), "uniform").pvalue > 1e-3
    for i in range(20):  # copied in order
        y, x = mask[i].nonzero().T
        offsets = [torch.unique(source[i, k][mask[i]] - line) for k, line in enumerate((y, x))]
        assert [len(offset) for offset in offsets] == [1, 1]


def test_every_place_and_no_other():
    """Of 32 pixels and a side of 24: sources begin at 0..7, destinations at 1..6."""
    anomaly = CutPaste(sizes=[[24, 24]], weights=[1], blend=0, design_size=None, tolerance=0)
    found, source, mask = pastes(anomaly, batch=300, height=32, width=32)
    moved = mask.flatten(1).any(dim=1)  # some are pasted where they come from
    assert moved.float().mean() > 0.9 and (found[moved.numpy(), 2:] == 24).all()
    for k in (0, 1):
        assert set(found[moved.numpy(), k]) == set(range(1, 7))
        assert {source[i, k][mask[i]].min().item() for i in moved.nonzero()[:, 0].tolist()} == set(range(8))


def test_one_size_per_batch():
    sides = [boxes(CutPaste(size_per="batch", tolerance=0)(torch.rand(6, 1, 256, 256), generator(s)).mask)[:, 2:] for s in range(5)]
    assert all(len(np.unique(side)) == 1 for side in sides) and len({side[0, 0] for side in sides}) > 1
    assert len(np.unique(boxes(CutPaste(tolerance=0)(torch.rand(6, 1, 256, 256), generator()).mask)[:, 2:])) > 2


@pytest.mark.parametrize(
    ("height", "width", "design_size", "shortest", "longest"), [(64, 64, 256, 2, 8), (128, 300, 256, 5, 16), (100, 90, None, 10, 32)]
)
def test_sizes_follow_the_shorter_side(height, width, design_size, shortest, longest):
    anomaly = CutPaste(sizes=[[10, 32]], weights=[1], design_size=design_size, tolerance=0)
    side = boxes(anomaly(torch.rand(300, 1, height, width), generator()).mask)[:, 2:]
    assert side.min() == shortest and side.max() == longest and (side[:, 0] == side[:, 1]).all()


def test_rectangles():
    """Area, aspect and places of the original paper."""
    found, source, mask = pastes(RectangleCutPaste(jitter=0, tolerance=0), batch=400, height=200, width=300)
    area, aspect = found[:, 2] * found[:, 3] / 60000, found[:, 3] / found[:, 2]
    # Rounded to whole pixels, sides of 200 x 300 images.
    assert area.min() > 0.019 and area.max() < 0.155 and aspect.min() > 0.28 and aspect.max() < 3.5
    np.testing.assert_allclose(area.mean(), 0.085, atol=4 * 0.13 / math.sqrt(12 * 400))
    assert kstest(area, "uniform", args=(0.02, 0.13)).pvalue > 1e-3
    np.testing.assert_allclose(np.mean(aspect > 1), 0.5, atol=3 * math.sqrt(0.25 / 400))
    assert kstest(aspect[aspect > 1.02], "uniform", args=(1, 2.3)).pvalue > 1e-3
    assert kstest(aspect[aspect < 0.98], "uniform", args=(0.3, 0.7)).pvalue > 1e-3
    assert (found[:, 0] + found[:, 2] <= 200).all() and (found[:, 1] + found[:, 3] <= 300).all()
    for k in (0, 1):
        free = (200, 300)[k] - found[:, 2 + k] + 1
        assert kstest((found[:, k] + 0.5) / free, "uniform").pvalue > 1e-3
    for i, m in enumerate(mask[:20]):
        y, x = m.nonzero().T
        assert len(torch.unique(source[i, 0][m] - y)) == len(torch.unique(source[i, 1][m] - x)) == 1


def test_scars():
    """Thin strips that were turned: neighbours stay neighbours, and the strip keeps its area."""
    anomaly = ScarCutPaste(jitter=0, tolerance=0, design_size=None)
    _, source, mask = pastes(anomaly, batch=250, height=100, width=100)
    angles = []
    for i, m in enumerate(mask):
        y, x = m.nonzero().T.double()
        row, column = (source[i, k][m].double() for k in (0, 1))
        height, width = row.max() - row.min() + 1, column.max() - column.min() + 1
        assert 9 <= height <= 25 and 1 <= width <= 16
        assert abs(len(y) - height * width) <= 2 * (height + width)  # whole pixels of a turned rectangle
        # The turn, by least squares of the source's row on the destination.
        design = torch.stack((y - y.mean(), x - x.mean()), dim=1)
        cos, sin = torch.linalg.lstsq(design, torch.stack((row - row.mean(), column - column.mean()), dim=1)).solution[:, 0]
        if width >= 6:
            angles.append(math.degrees(math.atan2(-sin, cos)))
            assert abs(math.hypot(cos, sin) - 1) < 0.1
    assert len(angles) > 100 and max(map(abs, angles)) < 50
    assert kstest(angles, "uniform", args=(-45, 90)).pvalue > 1e-3
    straight = ScarCutPaste(jitter=0, tolerance=0, rotation_deg=0, design_size=None)
    found, _, mask = pastes(straight, 50, 100, 100)
    assert all(m.sum() == height * width for m, (_, _, height, width) in zip(mask, found))


def test_the_smallest_scars_do_not_vanish():
    """However they are turned, some pixel's centre lies in them."""
    anomaly = ScarCutPaste(width=(1, 2), length=(1, 2), tolerance=0, jitter=0, design_size=None)
    out = anomaly(torch.rand(300, 3, 40, 40), generator())
    unchanged = ~out.mask.flatten(1).any(dim=1)
    assert unchanged.float().mean() < 0.01  # pasted where they come from


def test_colours_move_by_their_definitions():
    """Brightness and contrast against their definition, saturation to grey, and a third of a turn of hue against colorsys."""
    torch.manual_seed(0)
    values, one = torch.rand(3, 50, dtype=torch.float64), torch.zeros(50, dtype=torch.long)
    mean = values.mean()[None]

    def jittered(which, draw, strength):
        draws = torch.full((4, 1), 0.5)
        draws[which] = draw
        return jitter_colours(values, one, mean, draws, strength)

    torch.testing.assert_close(jittered(0, 1.0, 0.1), values * 1.1)
    torch.testing.assert_close(jittered(1, 1.0, 0.1), mean + 1.1 * (values - mean))
    grey = values.mean(dim=0)
    both = jitter_colours(values, one, mean, torch.tensor([[1.0], [0.0], [0.5], [0.5]]), 0.1)
    torch.testing.assert_close(both, 1.1 * (mean + 0.9 * (values - mean)))
    torch.testing.assert_close(jittered(2, 0.0, 0.5), grey + 0.5 * (values - grey))
    turned = jittered(3, 5 / 6, 0.5)  # a third of a full turn: the channels change places
    torch.testing.assert_close(turned, values.roll(1, dims=0), rtol=1e-6, atol=1e-6)
    for before, after in zip(values.T.tolist(), turned.T.tolist()):
        hue, hue_after = (colorsys.rgb_to_hsv(*colour)[0] for colour in (before, after))
        assert abs((hue_after - hue) % 1 - 1 / 3) < 1e-5
    nothing = jitter_colours(values, one, mean, torch.rand(4, 1), 0.0)
    torch.testing.assert_close(nothing, values)


def test_jitter_is_each_image_s_own():
    """Five channels are no colours: brightness and contrast only; patches of one batch do not mix."""
    values, image = torch.rand(5, 30), torch.arange(3).repeat_interleave(10)
    draws, mean = torch.rand(4, 3), torch.rand(3)
    together = jitter_colours(values, image, mean, draws, 0.1)
    for k in range(3):
        alone = jitter_colours(values[:, image == k], torch.zeros(10, dtype=torch.long), mean[k : k + 1], draws[:, k : k + 1], 0.1)
        torch.testing.assert_close(together[:, image == k], alone)
    batch = torch.rand(2, 5, 20, 30)
    corner, box = (torch.tensor([3, 0]), torch.tensor([4, 20])), (torch.tensor([5, 20]), torch.tensor([6, 10]))
    expected = torch.stack((batch[0, :, 3:8, 4:10].mean(), batch[1, :, :, 20:].mean()))
    torch.testing.assert_close(box_mean(batch, corner, box), expected)


@pytest.mark.parametrize("kind", [RectangleCutPaste, ScarCutPaste])
def test_contrast_is_measured_from_the_source(kind):
    """Brightness and contrast, found again from the values of each patch, both lie in their range; any other mean would throw them out of it."""
    image = torch.rand(60, 1, 64, 64, dtype=torch.float64, generator=generator(5)) * 0.2
    image += torch.linspace(0, 1, 64, dtype=torch.float64) ** 2  # dark on the left
    plain, jittered = (kind(jitter=j, tolerance=0, clip=False)(image, generator()) for j in (0, 0.1))
    for before, after, mask in zip(plain.image, jittered.image, plain.mask):
        if (n := int(mask.sum())) < 6:
            continue
        source, pasted = before[mask].numpy(), after[mask].numpy()
        gain, offset = np.polyfit(source, pasted, 1)
        np.testing.assert_allclose(gain * source + offset, pasted, atol=1e-9)
        mean = source.mean()
        # A turned strip is not made of quite the pixels that its mean was taken over.
        slack = 0.001 if kind is RectangleCutPaste else 0.1 * source.std() / mean * 3 / math.sqrt(n)
        brightness = gain + offset / mean
        assert abs(brightness - 1) < 0.1 + slack and abs(gain / brightness - 1) < 0.1 + slack


def test_jitter_shows():
    image = torch.rand(8, 3, 64, 64)
    for kind in (RectangleCutPaste, ScarCutPaste):
        plain, jittered = (kind(jitter=j, tolerance=0)(image, generator()).image for j in (0, 0.1))
        difference = (plain - jittered).abs()
        assert difference.max() > 0.02 and difference.max() < 0.5
