"""SCRD4AD's ratio: weights that learn, and a denominator that may vanish."""

from __future__ import annotations

import pytest
import torch
from support.golden import feature_set, noisy_set

from monai_anomaly.losses import ContrastiveLoss
from monai_anomaly.networks import Features

TEACHER, STUDENT = feature_set("small")
NOISY = noisy_set("small")
KINDS = [("global", "paper"), ("pixel", "paper"), ("global", "reference"), ("pixel", "reference")]


def value_and_gradients(loss, teacher, student, noisy):
    student = [s.clone().requires_grad_() for s in student]
    weights = torch.full((2, 3), 1 / 3, requires_grad=True)
    value = loss(Features(tuple(teacher), tuple(student), pseudo_teacher=tuple(noisy), scale_weights=weights))
    value.backward()
    return value.detach(), torch.cat([s.grad.flatten() for s in student]), weights.grad


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_ratio_pulls_to_the_clean_teacher_and_away_from_the_disturbed_one(kind):
    loss = ContrastiveLoss(*kind)
    levels = [s.clone().requires_grad_() for s in STUDENT]
    optimizer = torch.optim.SGD(levels, lr=20.0)

    def distances():
        return [sum((1 - torch.cosine_similarity(a, s)).mean().item() for a, s in zip(of, levels)) for of in (TEACHER, NOISY)]

    before = distances()
    for _ in range(10):
        optimizer.zero_grad()
        loss(Features(tuple(TEACHER), tuple(levels), pseudo_teacher=tuple(NOISY), scale_weights=torch.full((2, 3), 1 / 3))).backward()
        optimizer.step()
    after = distances()
    assert after[0] / after[1] < before[0] / before[1] and after[0] < before[0]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_student_that_equals_the_disturbed_teacher_divides_by_no_zero(kind):
    value, *gradients = value_and_gradients(ContrastiveLoss(*kind), TEACHER, NOISY, NOISY)
    assert torch.isfinite(value) and value > 1e3 and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_disturbance_that_changed_nothing_gives_one_and_pulls_nowhere(kind):
    """Air pasted on air."""
    value, of_student, of_weights = value_and_gradients(ContrastiveLoss(*kind), TEACHER, STUDENT, TEACHER)
    assert value == 1 and of_student.abs().max() < 1e-6 and of_weights.abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_perfect_student_has_no_distance_to_lower(kind):
    value, of_student, _ = value_and_gradients(ContrastiveLoss(*kind), TEACHER, TEACHER, NOISY)
    assert abs(value) < 1e-5 and of_student.abs().max() < 1e-4


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_all_of_them_equal_stays_finite(kind):
    value, *gradients = value_and_gradients(ContrastiveLoss(*kind), TEACHER, TEACHER, TEACHER)
    assert torch.isfinite(value) and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_mean_over_the_batch_is_taken_before_the_ratio():
    weights = torch.full((2, 3), 1 / 3)
    both = ContrastiveLoss()(Features(tuple(TEACHER), tuple(STUDENT), pseudo_teacher=tuple(NOISY), scale_weights=weights))
    ratios = [
        ContrastiveLoss()(Features(*(tuple(f[k : k + 1] for f in of) for of in (TEACHER, STUDENT, NOISY)), scale_weights=weights[:1]))
        for k in range(2)
    ]
    assert abs(both - torch.stack(ratios).mean()) > 1e-6 and min(ratios) < both < max(ratios)
