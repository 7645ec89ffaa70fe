"""The losses against the released code's numbers, and gradients against both forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden import feature_set, load, noisy_set, synthetic_image, uniform

from monai_anomaly.losses import (
    ConsistencyLoss,
    ContrastiveLoss,
    ProjectionLoss,
    SegmentationLoss,
    SimilarityLoss,
    SpatialLoss,
    cosine_distance,
    level_map,
)
from monai_anomaly.networks import Features
from monai_anomaly.transforms import from_unit_range
from monai_anomaly.transforms.pseudo import PseudoAbnormal


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
    for letter, features in (("t", teacher), ("s", student), ("n", noisy_set(name))):
        for level, feature in enumerate(features, start=1):
            x = feature.double().flatten()
            check = [x.sum(), (x**2).sum(), *x[:4]]
            np.testing.assert_allclose(check, losses[f"{name}_check_{letter}{level}"].ravel(), rtol=1e-6)
            if name == "small":
                np.testing.assert_array_equal(feature, losses[f"small_{letter}{level}"])


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


@pytest.mark.parametrize("name", ["small", "canon"])
def test_rd4ad(losses, name):
    """Released: one cosine per level. Paper: that of Skip-TS, eq. 1 to 3, which ``test_paper_form_and_gradients`` holds against the golden numbers."""
    np.testing.assert_allclose(SimilarityLoss(variant="reference")(pair(name)).item(), losses[f"{name}_rd_ref_global"], rtol=1e-5)


@pytest.mark.parametrize("name", ["small", "canon"])
def test_esc_drkd(losses, name):
    """Released and paper are the same: L_kd between teacher and student, L_rec between teacher and projections, both by pixels."""
    teacher, student = feature_set(name)
    levels = losses[f"{name}_esc_ref_cos_levels"]
    np.testing.assert_allclose(SimilarityLoss()(pair(name)).item(), levels.sum(), rtol=1e-5)
    for projected in ([0, 1, 2], [1, 2], [2]):
        features = Features(teacher, teacher, projected=tuple(student[k] if k in projected else None for k in range(3)))
        np.testing.assert_allclose(ProjectionLoss()(features).item(), levels[projected].sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ["small", "canon"])
def test_drd(losses, name):
    """Released and paper are the same: over channels at each pixel (``batch``), over positions in each channel (``single``)."""
    teacher, student = feature_set(name)
    for key, of_level in (
        ("batch", lambda f: SimilarityLoss()(f)),
        ("single", lambda f: SpatialLoss()(f)),
        ("single", lambda f: SpatialLoss("pseudo_student")(Features(f.teacher, f.teacher, pseudo_student=f.student))),
    ):
        levels = [of_level(Features((t,), (s,))).item() for t, s in zip(teacher, student)]
        np.testing.assert_allclose(levels, losses[f"{name}_drd_ref_{key}_levels"], rtol=1e-5)
        np.testing.assert_allclose(of_level(Features(teacher, student)).item(), np.sum(levels), rtol=1e-5)
    # Not used in training: the released loss on a list, the mean over levels of one cosine per image.
    whole = [cosine_distance(t, s, (1, 2, 3)).mean().item() for t, s in zip(teacher, student)]
    np.testing.assert_allclose(np.mean(whole), losses[f"{name}_drd_ref_list_mean"], rtol=1e-5)


def test_drd_similarity_target():
    """Released: K of a complete CutPaste case, by colours of the normalised images."""
    golden = load("pseudo_anomaly.npz")
    image = from_unit_range(torch.from_numpy(synthetic_image(64, 64, 9)).permute(2, 0, 1)[None].float())
    pseudo = PseudoAbnormal(torch.from_numpy(golden["cutpaste64_normalised"]), torch.from_numpy(golden["cutpaste64_mask"] > 0)[None, None])
    np.testing.assert_allclose(level_map(image, pseudo.image), golden["drd_similarity_mask64"], atol=1e-5)
    levels = tuple(t[:1] for t in feature_set("canon")[0])
    value = SegmentationLoss()(Features(levels, levels, pseudo_teacher=levels, pseudo_student=levels, image=image, pseudo=pseudo))
    # Not quite 0: some feature pixels are zero vectors, whose distance is 1.
    q = sum(up_by_numpy(level_map(level, level).numpy().astype(np.float64), 64) for level in levels) / 3
    np.testing.assert_allclose(value.item(), np.abs(q - golden["drd_similarity_mask64"]).mean(), rtol=1e-5)


def contrast(name, weights):
    teacher, student = feature_set(name)
    return Features(
        tuple(teacher), tuple(s.requires_grad_() for s in student), pseudo_teacher=tuple(noisy_set(name)), scale_weights=weights
    )


def scale_logits():
    return uniform((2, 3), 77, -2, 2).clone().requires_grad_()


@pytest.mark.parametrize("name", ["small", "canon"])
def test_scrd4ad_released(losses, name):
    """Released: weights inside the cosine, where they change nothing."""
    logits = scale_logits()
    weights = logits.softmax(dim=1)
    np.testing.assert_allclose(weights.detach(), losses[f"{name}_scrd_w"], rtol=1e-6)
    features = contrast(name, weights)
    value = ContrastiveLoss(variant="reference")(features)
    numerator, _, ratio = losses[f"{name}_scrd_ref"]
    np.testing.assert_allclose(value.item(), ratio, rtol=1e-5)
    np.testing.assert_allclose(SimilarityLoss(variant="reference")(features).item(), numerator, rtol=1e-5)
    np.testing.assert_allclose(gradient_norms(value, features), losses[f"{name}_scrd_ref_gradnorm_s"], rtol=1e-4)
    assert logits.grad.abs().max() < 1e-5


@pytest.mark.parametrize("name", ["small", "canon"])
@pytest.mark.parametrize("similarity", ["global", "pixel"])
def test_scrd4ad_paper(losses, name, similarity):
    """Paper: weights outside the cosine. The golden numbers are in double precision: the gradient on the logits is a small difference of distances."""
    numerator, denominator, ratio = losses[f"{name}_scrd_outside_{similarity}"]
    assert numerator / denominator == pytest.approx(ratio, rel=1e-12)
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 5e-4)):
        logits = scale_logits().detach().to(dtype).requires_grad_()
        teacher, student, noisy = (tuple(x.to(dtype) for x in of) for of in (*feature_set(name), noisy_set(name)))
        value = ContrastiveLoss(similarity)(Features(teacher, student, noisy, scale_weights=logits.softmax(dim=1)))
        np.testing.assert_allclose(value.item(), ratio, rtol=1e-6)
        value.backward()
        assert logits.grad.abs().max() > 1e-3
        if similarity == "global":
            np.testing.assert_allclose(logits.grad, losses[f"{name}_scrd_outside_global_grad_logits"], rtol=tolerance)


def test_no_gradient_reaches_the_teacher():
    teacher, student = feature_set("small")
    features = Features(
        teacher=tuple(t.requires_grad_() for t in teacher),
        student=tuple(s.requires_grad_() for s in student),
        pseudo_teacher=tuple(n.clone().requires_grad_() for n in noisy_set("small")),
        pseudo_student=tuple(s.detach().clone().requires_grad_() for s in student),
        projected=tuple(s.detach().clone().requires_grad_() for s in student),
        scale_weights=torch.full((2, 3), 1 / 3, requires_grad=True),
        image=torch.rand(2, 3, 64, 64),
        pseudo=PseudoAbnormal(torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64, dtype=torch.bool)),
    )
    for variant in ("paper", "reference"):
        losses = (
            SimilarityLoss(variant=variant),
            ConsistencyLoss(variant),
            ContrastiveLoss("global", variant),
            ContrastiveLoss("pixel", variant),
        )
        for loss in (*losses, ProjectionLoss(), SpatialLoss(), SpatialLoss("pseudo_student"), SegmentationLoss()):
            loss(features).backward()
    assert all(t.grad is None for t in (*features.teacher, *features.pseudo_teacher))
    assert all(s.grad is not None for s in (*features.student, *features.pseudo_student, *features.projected))


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
    a, b, c = maps[0], up_by_numpy(maps[1], 8), up_by_numpy(maps[2], 8)
    expected = ((a - b) ** 2 + (a - c) ** 2 + (b - c) ** 2).mean()
    np.testing.assert_allclose(ConsistencyLoss()(features).item(), expected, rtol=1e-12)


def test_what_scrd4ad_and_drd_compute_in_double_precision_agrees_with_numpy():
    teacher, student = ([f.double() for f in features] for features in feature_set("small"))
    noisy, weights = [n.double() for n in noisy_set("small")], scale_logits().softmax(dim=1).detach().double()
    generator = torch.Generator().manual_seed(0)
    image, disturbed = torch.randn(2, 2, 3, 48, 40, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 1, 48, 40, generator=generator) > 0.5
    features = Features(teacher, student, noisy, student, scale_weights=weights, image=image, pseudo=PseudoAbnormal(disturbed, mask))

    def distance(a, b, axis):
        a, b = a.numpy(), b.numpy()
        return 1 - (a * b).sum(axis) / (np.sqrt((a**2).sum(axis)) * np.sqrt((b**2).sum(axis)))

    def ratio(of_image):
        near, far = (sum((weights.numpy()[:, k] * of_image(a[k], student[k])).mean() for k in range(3)) for a in (teacher, noisy))
        return near / far

    whole = ratio(lambda a, b: distance(a, b, (1, 2, 3)))
    np.testing.assert_allclose(ContrastiveLoss()(features).item(), whole, rtol=1e-12)
    pixels = ratio(lambda a, b: distance(a, b, 1).mean((1, 2)))
    np.testing.assert_allclose(ContrastiveLoss("pixel")(features).item(), pixels, rtol=1e-12)
    spatial = sum(distance(t, s, (2, 3)).mean() for t, s in zip(teacher, student))
    np.testing.assert_allclose(SpatialLoss()(features).item(), spatial, rtol=1e-12)
    q = sum(up_by_numpy(distance(n, a, 1), 48, 40) for n, a in zip(noisy, student)) / 3
    wanted = {
        "colour": distance(disturbed, image, 1),
        "mask": mask[:, 0].numpy(),
        "absdiff": np.minimum(np.abs((disturbed - image).numpy()).mean(1), 1),
    }
    for target, k in wanted.items():
        np.testing.assert_allclose(SegmentationLoss(target)(features).item(), np.abs(q - k).mean(), rtol=1e-12)


def up_by_numpy(m, height, width=None):
    """Bilinear, corners on corners."""
    for axis, n in ((1, height), (2, width or height)):
        positions = np.linspace(0, m.shape[axis] - 1, n)
        low = np.minimum(positions.astype(int), m.shape[axis] - 2)
        w = (positions - low).reshape([-1 if k == axis else 1 for k in range(3)])
        m = m.take(low, axis) * (1 - w) + m.take(low + 1, axis) * w
    return m


def test_a_zero_vector_is_at_distance_one():
    assert level_map(torch.zeros(1, 4, 1, 1), torch.ones(1, 4, 1, 1)).item() == 1
