"""The released codes' pseudo-anomalies, number for number."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from support.golden import load, synthetic_image

from monai_anomaly.transforms import from_unit_range
from monai_anomaly.transforms.pseudo import (
    SimplexPatch,
    released_cut_paste,
    released_simplex_patch,
    released_size,
    seeded_permutation,
    simplex3,
)
from monai_anomaly.transforms.pseudo.region import box_patches
from monai_anomaly.transforms.pseudo.simplex_patch import simplex_noise

SEEDS = [1, 111, -5000000000, 7777777777]


@pytest.fixture(scope="module")
def golden():
    return load("pseudo_anomaly.npz")


def batch_of(images):
    """float64 ``(B, 3, H, W)``, as the released code computes."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def octaves(seed, height, width):
    patches = box_patches(torch.tensor([height]), torch.tensor([width]), torch.device("cpu"))
    return simplex_noise(patches, 3, seeded_permutation(seed), dtype=torch.float64).view(3, height, width).numpy()


@pytest.mark.parametrize("seed", SEEDS)
def test_simplex(golden, seed):
    permutation = seeded_permutation(seed)
    np.testing.assert_array_equal(permutation, golden[f"simplex_perm_{seed}"])
    np.testing.assert_array_equal(3 * (permutation % 24), golden[f"simplex_pg3_{seed}"])
    points = torch.from_numpy(golden["simplex_points"].T.copy())
    noise = simplex3(points, permutation).numpy()
    np.testing.assert_allclose(noise, golden[f"simplex_full_noise3_{seed}"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(noise, golden[f"simplex_noise3_{seed}"], rtol=0, atol=2e-4)  # released: a few vertices fewer
    np.testing.assert_allclose(simplex3(points.float(), permutation), noise, rtol=0, atol=1e-5)
    field = octaves(seed, 20, 27)
    np.testing.assert_allclose(field, golden[f"simplex_full_oct_{seed}_3x20x27"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(field, golden[f"simplex_oct_{seed}_3x20x27"], rtol=0, atol=2e-4)


def test_simplex_statistics(golden):
    """The golden ones are of the released vertices, which move an extreme value by 2e-4 at most."""
    fields = [octaves(seed, 31, 31) for seed in range(1, 41)]
    stats = [[f.min(), f.max(), f.std(), f.mean()] for f in fields]
    np.testing.assert_allclose(stats, golden["simplex_31_stats_seeds1_40_min_max_std_mean"], rtol=0, atol=2e-4)


def test_cut_paste_sizes(golden):
    draw = Random(123)
    sizes = [released_size(draw) for _ in range(20000)]
    np.testing.assert_array_equal(sizes[:50], golden["cutpaste_t_20000_seed123_first50"])
    small, middle, large = (np.mean([low <= t <= high for t in sizes]) for low, high in ((10, 32), (64, 100), (150, 200)))
    np.testing.assert_allclose([small, middle, large, np.mean(sizes)], golden["cutpaste_t_hist"], atol=1e-12)


def test_cut_paste_at_256(golden):
    """Where the patches come from and go to, and what the normalised result sums up to, for twelve batches of four."""
    image = batch_of([synthetic_image(256, 256, k) for k in (1, 2, 3, 4)])
    columns = str(golden["cutpaste256_columns"]).split(",")
    rows = [dict(zip(columns, row)) for row in golden["cutpaste256_rows"].tolist()]
    for seed in range(12):
        draw, numpy_draw = Random(seed), np.random.RandomState(seed)
        size = released_size(draw)
        out = released_cut_paste(image, size, draw, numpy_draw)
        for k, row in enumerate(rows[4 * seed : 4 * seed + 4]):
            assert (row["seed"], row["index"], row["t"]) == (seed, k, size)
            height, width = row["patch_h"], row["patch_w"]
            patch = image[k, :, row["src_y"] : row["src_y"] + height, row["src_x"] : row["src_x"] + width]
            place = np.s_[:, row["dst_row"] : row["dst_row"] + height, row["dst_col"] : row["dst_col"] + width]
            expected = image[k].clone()
            expected[place] = patch + 0.2 * image[k][place]
            torch.testing.assert_close(out.image[k], expected, rtol=0, atol=1e-12)
            assert torch.equal(out.mask[k, 0], (expected != image[k]).any(dim=0))
        normalised = from_unit_range(out.image).double()
        sums = torch.stack((normalised.sum(dim=(1, 2, 3)), (normalised**2).sum(dim=(1, 2, 3)), out.image.amax(dim=(1, 2, 3))), dim=1)
        np.testing.assert_allclose(sums, golden["cutpaste256_sums"][4 * seed : 4 * seed + 4], rtol=1e-6)


def test_one_complete_cut_paste(golden):
    image = batch_of([golden["cutpaste64_image"]])
    np.testing.assert_allclose(image, batch_of([synthetic_image(64, 64, 9)]), atol=1e-15)
    out = released_cut_paste(image, 14, Random(7), np.random.RandomState(7))
    np.testing.assert_allclose(out.image, batch_of([golden["cutpaste64_pasted"]]), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(out.mask[0, 0], golden["cutpaste64_mask"] > 0)
    np.testing.assert_allclose(from_unit_range(out.image), golden["cutpaste64_normalised"], atol=1e-6)
    assert out.image.max() > 1  # the released code does not clip


def scrd4ad_source(k):
    bgr = np.uint8(255 * np.clip(synthetic_image(256, 256, 20 + k), 0, 1))
    return bgr[..., ::-1] / 255


def test_simplex_patches_of_the_data_set(golden):
    """Four items in a row, one of them twice; every patch is the corner of one texture."""
    draw = np.random.RandomState(111)
    seed = int(draw.randint(-10000000000, 10000000000))
    assert seed == golden["scrd_item_draws"][0]
    image = batch_of([scrd4ad_source(k) for k in (1, 2, 3, 1)])
    out = released_simplex_patch(image, seed, draw)
    for i, (height, width, top, left) in enumerate(golden["scrd_item_draws"][1:].reshape(4, 4)):
        delta = (out.image - image)[i].permute(1, 2, 0).numpy()
        patch = delta[top : top + height, left : left + width].copy()
        np.testing.assert_allclose(patch, golden[f"scrd_item{i}_delta_patch"], rtol=0, atol=2e-5)  # 0.2 of what the vertices may differ
        delta[top : top + height, left : left + width] = 0
        assert (
            not delta.any() and out.mask[i].sum() == (patch != 0).any(axis=-1).sum() >= height * width - 1
        )  # simplex noise is 0 at the origin
        clean, noisy = (from_unit_range(batch).double()[i] for batch in (image, out.image))
        sums = [clean.sum(), noisy.sum(), (clean**2).sum(), (noisy**2).sum()]
        np.testing.assert_allclose(sums, golden[f"scrd_item{i}_sums"], rtol=1e-5)


def test_the_released_texture_in_training(golden):
    """Sizes and places from our generator, the texture from the released seed."""
    image = torch.full((16, 3, 256, 256), 0.5, dtype=torch.float64)
    patch = SimplexPatch(texture_seed=int(golden["scrd_item_draws"][0]), clip=False, tolerance=0)
    out = patch(image, torch.Generator().manual_seed(0))
    texture = torch.from_numpy(0.2 * octaves(7698519916, 31, 31))
    assert len({(*pair,) for pair in (m.nonzero().amin(dim=0).tolist() for m in out.mask[:, 0])}) > 10
    for disturbed, mask in zip(out.image, out.mask[:, 0]):
        (top, left), (bottom, right) = mask.nonzero().amin(dim=0).tolist(), mask.nonzero().amax(dim=0).tolist()
        found = disturbed[:, top : bottom + 1, left : right + 1] - 0.5
        torch.testing.assert_close(found, texture[:, : found.shape[1], : found.shape[2]], rtol=0, atol=1e-12)
    assert len(Counter(m.sum().item() for m in out.mask)) > 8
