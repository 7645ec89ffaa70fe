"""What each target of DRD's segmentation term sees."""

from __future__ import annotations

import pytest
import torch

from monai_anomaly.losses import SegmentationLoss
from monai_anomaly.networks import Features
from monai_anomaly.transforms import from_unit_range
from monai_anomaly.transforms.pseudo import PseudoAbnormal


def loss_of_grey(target, before, after, size=(16, 16)):
    """The loss where both branches agree (Q is 0) and grey pixels change: the value of K."""
    image, disturbed = (from_unit_range(torch.full((1, 3, *size), value)) for value in (before, after))
    levels = tuple(torch.ones(1, 4, n, n) for n in (4, 2, 1))
    pseudo = PseudoAbnormal(disturbed, torch.full((1, 1, *size), before != after))
    return SegmentationLoss(target)(Features(levels, levels, levels, levels, image=image, pseudo=pseudo)).item()


@pytest.mark.parametrize(("before", "after", "colour"), [(0.3, 0.5, 1.71), (0.45, 0.5, 0.43), (0.8, 1.0, 0.0006), (0.0, 0.2, 0.0017)])
def test_colours_tell_grey_values_near_the_mean_only_and_the_other_targets_all(before, after, colour):
    assert loss_of_grey("colour", before, after) == pytest.approx(colour, rel=0.1)
    assert loss_of_grey("mask", before, after) == 1 and loss_of_grey("mask", before, before) == 0
    assert loss_of_grey("absdiff", before, after) == pytest.approx(
        min(1, (after - before) * (1 / 0.229 + 1 / 0.224 + 1 / 0.225) / 3), rel=1e-4
    )


def test_the_size_is_that_of_the_image():
    assert loss_of_grey("colour", 0.3, 0.5, (32, 24)) == pytest.approx(loss_of_grey("colour", 0.3, 0.5), rel=1e-5)


def test_the_student_learns_to_disagree_where_the_image_was_changed():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 32, 32, generator=generator)
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., 8:24, 8:16] = True
    teacher = tuple(torch.rand(1, 8, n, n, generator=generator) for n in (8, 4, 2))
    student = tuple(t.clone().add_(0.01).requires_grad_() for t in teacher)
    features = Features(teacher, teacher, teacher, student, image=image, pseudo=PseudoAbnormal(image + mask, mask))
    optimizer, loss = torch.optim.Adam(student, lr=0.05), SegmentationLoss("mask")
    first = loss(features).item()
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(features)
        value.backward()
        optimizer.step()
    distance = 1 - torch.cosine_similarity(teacher[0], student[0].detach())[0]
    assert value < 0.8 * first and distance[2:6, 2:4].mean() > 0.3 > 3 * distance[:, 5:].mean()
