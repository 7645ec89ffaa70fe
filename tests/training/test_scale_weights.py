"""SCRD4AD's head: with weights outside the cosine it learns, and the floor keeps it from giving up all levels but one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from support.tiny import blob

from monai_anomaly.losses import ContrastiveLoss
from monai_anomaly.networks import SCRD4AD, Teacher
from monai_anomaly.transforms import from_unit_range
from monai_anomaly.transforms.pseudo import PseudoAbnormal

STEPS = 12


def batch(rng):
    image = torch.from_numpy(np.stack([blob(rng)[0] for _ in range(4)])).float()[:, None].expand(-1, 3, -1, -1) / 255
    mask = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    for one in mask:
        y, x = rng.integers(8, 40, 2)
        one[:, y : y + 16, x : x + 16] = True
    return from_unit_range(image), PseudoAbnormal(from_unit_range(torch.where(mask, 1 - image, image)), mask)


@cache
def train(similarity="global", variant="paper", floor=0.0):
    """The weights of all images, the gradient norms of the head, those of the student's levels, and the loss, step by step."""
    rng = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = SCRD4AD(Teacher("resnet18", weights="random", stages=3), weight_floor=floor, blocks=[1, 1, 1]).train()
    loss = ContrastiveLoss(similarity, variant)
    optimizer = torch.optim.Adam([p for p in system.parameters() if p.requires_grad], lr=1e-3, betas=(0.5, 0.999))
    weights, of_head, of_levels, losses = [], [], [], []
    for _ in range(STEPS):
        features = system(*batch(rng))
        for level in features.student:
            level.retain_grad()
        value = loss(features)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        weights.append(features.scale_weights.detach())
        of_head.append(system.scale_head.linear.weight.grad.norm().item())
        of_levels.append([level.grad.norm().item() for level in features.student])
        losses.append(value.item())
    return torch.stack(weights), of_head, np.array(of_levels), losses


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["global", "pixel"])
def test_the_weights_move_and_no_level_is_given_up(similarity):
    weights, of_head, of_levels, losses = train(similarity, floor=0.1)
    assert of_head[0] > 1e-4
    assert (weights.mean(dim=1)[-1] - weights.mean(dim=1)[0]).abs().max() > 0.1
    assert weights.min() >= 0.1 - 1e-6 and (of_levels > 0.02 * of_levels.max(axis=1, keepdims=True)).all()
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(STEPS, 4))
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_without_a_floor_they_collapse_onto_one_level():
    """Why the floor is there: the ratio is lowest where only the level with the smallest one counts."""
    weights, _, of_levels, _ = train()
    assert weights[-1].max() > 0.999 and of_levels[-1].min() < 1e-3 * of_levels[-1].max()


@pytest.mark.slow
def test_inside_the_cosine_the_head_gets_rounding_noise():
    _, of_paper, _, _ = train()
    _, of_head, of_levels, _ = train(variant="reference")
    assert of_head[0] < 1e-2 * of_paper[0] and of_head[0] < 1e-5
    # The weights do not matter to the student either: all its levels learn, whatever they are.
    assert (of_levels > 0.02 * of_levels.max(axis=1, keepdims=True)).all()
