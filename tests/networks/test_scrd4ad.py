from __future__ import annotations

import pytest
import torch

from monai_anomaly.losses import SimilarityLoss
from monai_anomaly.networks import SCRD4AD, Teacher
from monai_anomaly.networks.scrd4ad import ScaleHead
from monai_anomaly.transforms.pseudo import PseudoAbnormal

IMAGE, OTHER = torch.randn(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PSEUDO = PseudoAbnormal(OTHER, torch.ones(2, 1, 64, 64, dtype=torch.bool))


def build(**options) -> SCRD4AD:
    torch.manual_seed(0)
    return SCRD4AD(Teacher("resnet18", weights="random", stages=3), **options)


def test_the_head_learns_only_from_a_loss_that_uses_its_weights():
    system = build().train()
    head = list(system.scale_head.parameters())
    features = system(IMAGE, PSEUDO)
    SimilarityLoss()(features).backward(retain_graph=True)
    assert all(p.grad is None for p in head)
    distances = torch.stack([(t - s).square().flatten(1).mean(1) for t, s in zip(features.teacher, features.student)], dim=1)
    (features.scale_weights * distances).sum(1).mean().backward()
    assert all(p.grad.abs().max() > 1e-4 for p in head)


def test_a_step_moves_the_weights_towards_the_level_that_is_rewarded():
    system = build().train()
    optimizer = torch.optim.SGD(system.scale_head.parameters(), lr=0.1)
    with torch.no_grad():
        before = system.eval()(IMAGE).scale_weights
    system.train()
    loss = -system(IMAGE, PSEUDO).scale_weights[:, 1].mean()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        after = system.eval()(IMAGE).scale_weights
    assert (after[:, 1] > before[:, 1]).all()


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_weights_are_those_of_the_formula_and_lie_in_the_simplex(pooling, floor):
    torch.manual_seed(0)
    head, phi = ScaleHead(8, pooling, floor).double(), 10 * torch.rand(4, 8, 3, 5, dtype=torch.float64)
    weights = head(phi)
    pooled = phi.flatten(2).max(2).values if pooling == "max" else phi.flatten(2).sum(2) / 15
    exponentials = torch.exp(pooled @ head.linear.weight.T + head.linear.bias)
    torch.testing.assert_close(weights, floor + (1 - 3 * floor) * exponentials / exponentials.sum(1, keepdim=True))
    torch.testing.assert_close(weights.sum(1), torch.ones(4, dtype=torch.float64))
    assert weights.min() >= floor


def test_the_floor_keeps_every_level_in():
    head = ScaleHead(2, floor=0.1)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
        torch.testing.assert_close(head(torch.zeros(1, 2, 2, 2)), torch.tensor([[0.1, 0.8, 0.1]]))


def test_the_pseudo_image_is_seen_by_the_teacher_alone():
    """Batch statistics and outputs of the clean branch are those of a step without it."""
    with_pseudo, without = build().train(), build().train()
    a, b = with_pseudo(IMAGE, PSEUDO), without(IMAGE)
    for s, t in zip(a.student, b.student):
        torch.testing.assert_close(s, t, rtol=1e-4, atol=1e-4)
    for (key, x), y in zip(with_pseudo.state_dict().items(), without.state_dict().values()):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4, msg=key)
    for n, t in zip(a.pseudo_teacher, with_pseudo.teacher(OTHER), strict=True):
        torch.testing.assert_close(n, t, rtol=1e-4, atol=1e-4)
