"""Patches on tissue: air pasted on air is a normal image with an abnormal label."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anomaly.transforms.pseudo import CutPaste, GaussianPatch, PerlinPatch, RectangleCutPaste, ScarCutPaste, SimplexPatch
from monai_anomaly.transforms.pseudo.placing import place, tissue_pixel

SMALL = {"sizes": [[10, 32]], "weights": [1]}
PASTED = {
    "cut_paste": lambda **options: CutPaste(**SMALL, **options),
    "rectangle": lambda **options: RectangleCutPaste(**options),
    "scar": lambda **options: ScarCutPaste(**options),
}
NOISE = {
    "simplex": lambda **options: SimplexPatch(**options),
    "gaussian": lambda **options: GaussianPatch(**options),
    "perlin": lambda **options: PerlinPatch(**options),
}
KINDS = PASTED | NOISE


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def head(batch, size=128, radius=0.25, channels=3):
    """A textured disc in the middle of air that is not quite 0, as in a JPEG."""
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, size), torch.linspace(-0.5, 0.5, size), indexing="ij")
    disc = (x**2 + y**2).sqrt() < radius
    random = torch.rand((batch, channels, size, size), generator=generator(99))
    return torch.where(disc, 0.3 + 0.6 * random, 0.003 * random), disc


def share_unchanged(out):
    return 1 - out.mask.flatten(1).any(dim=1).float().mean().item()


@pytest.mark.parametrize("kind", PASTED)
def test_air_on_air(kind):
    """Counted where patches go anywhere, avoided where they go on tissue."""
    image, _ = head(256)
    anywhere, on_tissue = (PASTED[kind](foreground=f)(image, generator()) for f in (None, 0.1))
    assert share_unchanged(anywhere) > (0.05 if kind == "rectangle" else 0.2)  # rectangles are large
    assert share_unchanged(on_tissue) == 0
    for out in (anywhere, on_tissue):
        unchanged = ~out.mask.flatten(1).any(dim=1)
        assert torch.equal(out.image[unchanged], image[unchanged])


@pytest.mark.parametrize("kind", KINDS)
def test_patches_lie_on_tissue(kind):
    """Their centres do, and the patch of a pasted one comes from tissue."""
    image, disc = head(128)
    image[:, :, disc] = image[:, :, disc].clamp_min(0.8)
    out = KINDS[kind](foreground=0.1, tolerance=0, clip=False)(image, generator())
    for disturbed, mask in zip(out.image, out.mask[:, 0]):
        places = mask.nonzero()
        low, high = places.amin(dim=0), places.amax(dim=0)
        centre = [int(n) for n in (low + high + 1) // 2]
        assert disc[centre[0], centre[1]]
        if kind in PASTED:
            assert disturbed[:, centre[0], centre[1]].mean() > 0.6  # not air


@pytest.mark.parametrize("kind", KINDS)
def test_no_tissue_no_anomaly(kind):
    image, _ = head(4)
    image[1] = 0.02 * torch.rand(3, 128, 128)
    out = KINDS[kind](foreground=0.1)(image, generator())
    assert out.mask.flatten(1).any(dim=1).tolist() == [True, False, True, True]
    assert torch.equal(out.image[1], image[1])


def test_large_patches_cover_tissue_they_cannot_be_centred_on():
    image = torch.zeros(40, 1, 128, 128)
    image[:, :, :6, :6] = 1  # the largest patches have their centres elsewhere
    out = CutPaste(sizes=[[150, 200]], weights=[1], foreground=0.5)(image, generator())
    assert share_unchanged(out) == 0


def test_every_pixel_of_tissue_is_as_likely():
    rng = np.random.default_rng(0)
    tissue = torch.from_numpy(rng.random((2, 7, 9)) > 0.6)
    n = 20000
    rows, columns = tissue_pixel(tissue.repeat(n, 1, 1), torch.rand(2 * n, generator=generator()))
    for k in (0, 1):
        counts = np.zeros((7, 9))
        np.add.at(counts, (rows[k::2].numpy(), columns[k::2].numpy()), 1)
        assert not counts[~tissue[k].numpy()].any()
        share = 1 / tissue[k].sum().item()
        np.testing.assert_allclose(counts[tissue[k].numpy()] / n, share, atol=4.5 * np.sqrt(share / n))
    exact = tissue_pixel(tissue[:1].expand(int(tissue[0].sum()), -1, -1), torch.arange(int(tissue[0].sum())) / tissue[0].sum())
    assert torch.equal(torch.stack(exact, dim=1), tissue[0].nonzero())


def test_tissue_everywhere_is_no_restriction():
    """Every place is as likely as any other, those at the border too."""
    draws, length = torch.rand((2, 6000), generator=generator()), torch.full((6000,), 4)
    top, left = place(draws, (length, length), (9, 12), lowest=1, gap=2, tissue=torch.ones(6000, 9, 12, dtype=torch.bool))
    counts = torch.bincount(top * 12 + left).float()
    assert sorted(set(top.tolist())) == [1, 2, 3] and sorted(set(left.tolist())) == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(counts[counts > 0] / 6000, 1 / 18, atol=4 * np.sqrt(1 / 18 / 6000))


def test_places_without_tissue_cover_all():
    draws = torch.rand((2, 4000), generator=generator())
    length = torch.full((4000,), 4)
    top, left = place(draws, (length, length), (9, 12), lowest=1, gap=2)
    assert sorted(set(top.tolist())) == [1, 2, 3] and sorted(set(left.tolist())) == [1, 2, 3, 4, 5, 6]
