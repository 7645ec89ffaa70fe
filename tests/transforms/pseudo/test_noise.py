"""Noise: Perlin and simplex against their definitions, statistics, edges, textures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from monai_anomaly.transforms.pseudo import GaussianPatch, PerlinPatch, SimplexPatch, perlin2, seeded_permutation, simplex3
from monai_anomaly.transforms.pseudo.fractal import fractal

PATCHES = {"simplex": SimplexPatch, "gaussian": GaussianPatch, "perlin": PerlinPatch}
each_patch = pytest.mark.parametrize("kind", PATCHES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def added(patch, batch=1, channels=3, size=64, seed=0):
    """What a patch of a whole-number place adds to grey, and its mask; never clipped."""
    grey = torch.full((batch, channels, size, size), 0.5, dtype=torch.float64)
    out = patch(grey, generator(seed))
    return (out.image - 0.5).numpy(), out.mask[:, 0].numpy()


def whole(kind, batch=1, **options):
    """Patches of 50 x 50 in images of 64."""
    return added(PATCHES[kind](size=(50, 50), design_size=None, clip=False, tolerance=0, **options), batch)


def all_vertices(point, permutation):
    """OpenSimplex by its definition: every vertex in a cube around the point."""
    gradients = [
        np.array(signs) * sizes
        for signs in ((-1, 1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, 1), (-1, 1, -1), (1, 1, -1), (-1, -1, -1), (1, -1, -1))
        for sizes in ((11, 4, 4), (4, 11, 4), (4, 4, 11))
    ]
    base = np.floor(point - point.sum() / 6).astype(int)
    total = 0.0
    for offset in itertools.product(range(-2, 4), repeat=3):
        i, j, k = vertex = base + offset
        d = point - (vertex + vertex.sum() / 3)
        gradient = gradients[permutation[(permutation[(permutation[i & 255] + j) & 255] + k) & 255] % 24]
        total += max(0.0, 2 - d @ d) ** 4 * (gradient @ d)
    return total / 103


def test_eight_vertices_are_all():
    """Random points, points on the lattice's planes and edges, and points far out; two textures."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [rng.uniform(-5, 5, (150, 3)), rng.integers(-4, 5, (60, 3)) / 2, rng.integers(-6, 7, (60, 3)) / 6, rng.uniform(-300, 300, (30, 3))]
    )
    permutations = torch.stack([seeded_permutation(3), seeded_permutation(4)])
    texture = torch.arange(len(points)) % 2
    noise = simplex3(torch.from_numpy(points.T.copy()), permutations, texture)
    expected = [all_vertices(p, permutations[t].numpy()) for p, t in zip(points, texture)]
    np.testing.assert_allclose(noise, expected, rtol=0, atol=1e-10)


def test_perlin_by_its_definition():
    rng = np.random.default_rng(0)
    points = rng.uniform(-5, 300, (200, 2))
    permutations = np.stack([rng.permutation(256) for _ in range(2)])
    texture = np.arange(200) % 2

    def by_hand(x, y, p):
        cell = math.floor(x), math.floor(y)
        total = 0.0
        for right, down in itertools.product((0, 1), repeat=2):
            turn = (p[(p[(cell[0] + right) & 255] + cell[1] + down) & 255] & 7) * math.pi / 4
            dx, dy = x - cell[0] - right, y - cell[1] - down
            fade = [6 * t**5 - 15 * t**4 + 10 * t**3 for t in (1 - abs(dx), 1 - abs(dy))]
            total += fade[0] * fade[1] * (math.cos(turn) * dx + math.sin(turn) * dy)
        return total * math.sqrt(2)

    noise = perlin2(torch.from_numpy(points.T.copy()), torch.from_numpy(permutations), torch.from_numpy(texture))
    np.testing.assert_allclose(noise, [by_hand(*p, permutations[t]) for p, t in zip(points, texture)], atol=1e-10)
    dense = perlin2(torch.rand(2, 100000, generator=generator()) * 256, torch.randperm(256))
    assert 0.8 < dense.abs().max() <= 1


def test_octaves():
    points = torch.rand(3, 20, dtype=torch.float64) * 10
    permutation = seeded_permutation(5)
    total = fractal(lambda p: simplex3(p, permutation), points, 4, 0.5)
    expected = sum(0.5**k * simplex3(points * 2**k, permutation) for k in range(4))
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize(("kind", "low", "high"), [("simplex", 0.04, 0.09), ("gaussian", 0.099, 0.101), ("perlin", 0.03, 0.09)])
def test_strength(kind, low, high):
    """Simplex: the paper's amplitude 0.2 times a standard deviation of about 0.3."""
    delta, _ = whole(kind, batch=40)
    assert low < delta[delta != 0].std() < high
    doubled, _ = whole(kind, batch=40, amplitude=2 * PATCHES[kind]().amplitude)
    np.testing.assert_allclose(doubled, 2 * delta, atol=1e-12)


@each_patch
def test_grey_and_coloured(kind):
    colour, _ = whole(kind)
    grey, _ = whole(kind, grey_noise=True)
    assert np.abs(colour[0, 0] - colour[0, 1]).max() > 0.01
    np.testing.assert_array_equal(grey[0, 0], grey[0, 2])
    if kind != "gaussian":  # drawn channel after channel
        np.testing.assert_allclose(whole(kind)[0][0, 0], grey[0, 0] if kind == "simplex" else colour[0, 0])


@each_patch
def test_soft_edges(kind):
    """The same noise, faded in over five pixels on each side."""
    hard, mask = whole(kind)
    soft, _ = whole(kind, soft_edge_px=5)
    place = np.argwhere(mask[0])
    top, left = place.min(axis=0)
    hard, soft = (delta[0, :, top : top + 50, left : left + 50] for delta in (hard, soft))
    depth = np.minimum(np.arange(50), np.arange(50)[::-1])
    weight = np.minimum(1, (np.minimum(depth[:, None], depth) + 1) / 6)
    np.testing.assert_allclose(soft, hard * weight, atol=1e-7)


@each_patch
def test_textures_are_new(kind):
    """No two images, and no two calls, have the same noise; none is 0 in its corner."""
    patch = PATCHES[kind](size=(50, 50), design_size=None, clip=False, tolerance=0)
    state = generator()
    grey = torch.full((8, 1, 64, 64), 0.5)
    seen = []
    for _ in range(2):
        out = patch(grey, state)
        for disturbed, mask in zip(out.image[:, 0], out.mask[:, 0]):
            top, left = mask.nonzero().amin(dim=0).tolist()
            seen.append((disturbed - 0.5)[top : top + 40, left : left + 40].flatten().numpy())
    assert (np.abs([s[0] for s in seen]) > 1e-6).all()
    related = np.corrcoef(seen) - np.eye(16)
    # Coarse noise of so few features is alike by chance; the same noise would give 1.
    assert np.abs(related).max() < (0.1 if kind == "gaussian" else 0.95) and abs(related.mean()) < 0.1


@pytest.mark.parametrize("kind", ["simplex", "perlin"])
def test_features_grow_with_the_image(kind):
    """In an image twice as large every second pixel of the patch is a pixel of the smaller image's."""
    patches = []
    for size in (64, 128):
        noise, mask = added(PATCHES[kind](size=(20, 20), grey_noise=True, design_size=64, clip=False, tolerance=0), size=size)
        rows, columns = (np.flatnonzero(mask[0].any(axis=axis)) for axis in (1, 0))
        patches.append(noise[0][:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    assert patches[1].shape == (3, 40, 40)
    np.testing.assert_allclose(patches[1][:, ::2, ::2], patches[0], atol=1e-9)


def test_simplex_rectangles():
    """Sides 10 to 31, corners over 1 to 255 minus the side, as SCRD4AD draws them."""
    out = SimplexPatch(clip=False, tolerance=0, octaves=1)(torch.full((600, 1, 256, 256), 0.5), generator())
    rows, columns = out.mask[:, 0].any(dim=2), out.mask[:, 0].any(dim=1)
    for line in (rows, columns):
        side, first = line.sum(dim=1), line.int().argmax(dim=1)
        assert side.min() == 10 and side.max() == 31
        np.testing.assert_allclose(side.float().mean(), 20.5, atol=4 * 6.35 / math.sqrt(600))
        assert first.min() >= 1 and (first + side).max() <= 255 and first.min() <= 4 and (first + side).max() >= 250
