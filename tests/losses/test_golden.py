"""The losses against the released code's numbers, and gradients against both forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden import feature_set, load

from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss, level_map
from monai_anomaly.networks import Features


@pytest.fixture(scope="module")
def losses():
    return load("losses.npz")


def pair(name):
    teacher, student = feature_set(name)
    return Features(teacher=tuple(teacher), student=tuple(s.requires_grad_() for s in student))


def gradient_norms(loss, features):
    loss.backward()
    return [s.grad.norm().item() for s in features.student]


@pytest.mark.parametrize("name", ["small", "canon"])
def test_inputs_are_the_golden_ones(losses, name):
    teacher, student = feature_set(name)
    for letter, features in (("t", teacher), ("s", student)):
        for level, feature in enumerate(features, start=1):
            x = feature.double().flatten()
            check = [x.sum(), (x**2).sum(), *x[:4]]
            np.testing.assert_allclose(check, losses[f"{name}_check_{letter}{level}"].ravel(), rtol=1e-6)


@pytest.mark.parametrize("name", ["small", "canon"])
@pytest.mark.parametrize(("mode", "measure"), [(0, "cosine"), (1, "mse"), (2, "half")])
def test_released_similarity(losses, name, mode, measure):
    value = SimilarityLoss(measure, variant="reference")(pair(name))
    np.testing.assert_allclose(value.item(), losses[f"{name}_skipts_ref_sim_mode{mode}"], rtol=1e-5)


@pytest.mark.parametrize("name", ["small", "canon"])
def test_released_consistency_and_gradients(losses, name):
    np.testing.assert_allclose(ConsistencyLoss("reference")(pair(name)).item(), losses[f"{name}_skipts_ref_mac"], rtol=1e-5)
    for loss, key in ((SimilarityLoss(variant="reference"), "sim"), (ConsistencyLoss("reference"), "mac")):
        features = pair(name)
        np.testing.assert_allclose(gradient_norms(loss(features), features), losses[f"{name}_skipts_ref_{key}_gradnorm"], rtol=1e-4)


@pytest.mark.parametrize("name", ["small", "canon"])
def test_paper_form_and_gradients(losses, name):
    features = pair(name)
    levels = [level_map(t, s).mean().item() for t, s in zip(features.teacher, features.student)]
    np.testing.assert_allclose(levels, losses[f"{name}_paper_sim_levels"], rtol=1e-6)
    np.testing.assert_allclose(SimilarityLoss()(features).item(), losses[f"{name}_paper_sim"], rtol=1e-6)
    for align in (True, False):
        value = ConsistencyLoss(align_corners=align)(pair(name)).item()
        np.testing.assert_allclose(value, losses[f"{name}_paper_mac_align{int(align)}"], rtol=2e-6)
    ordered = ConsistencyLoss(pairs="ordered")(pair(name)).item()
    np.testing.assert_allclose(ordered, 2 * losses[f"{name}_paper_mac_align1"], rtol=2e-6)
    for loss, key in ((SimilarityLoss(), "sim"), (ConsistencyLoss(), "mac_align1")):
        features = pair(name)
        np.testing.assert_allclose(gradient_norms(loss(features), features), losses[f"{name}_paper_{key}_gradnorm"], rtol=1e-5)


def test_no_gradient_reaches_the_teacher():
    teacher, student = feature_set("small")
    features = Features(teacher=tuple(t.requires_grad_() for t in teacher), student=tuple(s.requires_grad_() for s in student))
    for variant in ("paper", "reference"):
        (SimilarityLoss(variant=variant)(features) + ConsistencyLoss(variant)(features)).backward()
    assert all(t.grad is None for t in features.teacher)


def test_inputs_in_double_precision_agree_with_numpy():
    """Eq. 1 to 4 written a second time, with explicit loops over pixels."""
    teacher, student = ([f[:, :, ::2, ::2].double() for f in features] for features in feature_set("small"))
    maps = []
    for t, s in zip(teacher, student):
        t, s = t.numpy(), s.numpy()
        m = np.empty((t.shape[0], *t.shape[2:]))
        for b, y, x in np.ndindex(*m.shape):
            p, q = t[b, :, y, x], s[b, :, y, x]
            m[b, y, x] = 1 - p @ q / (max(np.linalg.norm(p), 1e-8) * max(np.linalg.norm(q), 1e-8))
        maps.append(m)
    features = Features(teacher=tuple(teacher), student=tuple(student))
    np.testing.assert_allclose(SimilarityLoss()(features).item(), sum(m.mean() for m in maps), rtol=1e-12)

    def enlarge(m, n):
        positions = np.linspace(0, m.shape[-1] - 1, n)
        low = np.minimum(positions.astype(int), m.shape[-1] - 2)
        w = positions - low
        rows = m[:, low] * (1 - w)[:, None] + m[:, low + 1] * w[:, None]
        return rows[:, :, low] * (1 - w) + rows[:, :, low + 1] * w

    a, b, c = maps[0], enlarge(maps[1], 8), enlarge(maps[2], 8)
    expected = ((a - b) ** 2 + (a - c) ** 2 + (b - c) ** 2).mean()
    np.testing.assert_allclose(ConsistencyLoss()(features).item(), expected, rtol=1e-12)


def test_a_zero_vector_is_at_distance_one():
    assert level_map(torch.zeros(1, 4, 1, 1), torch.ones(1, 4, 1, 1)).item() == 1
