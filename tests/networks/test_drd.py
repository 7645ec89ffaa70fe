from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_anomaly.networks import DRD, Teacher
from monai_anomaly.transforms.pseudo import PseudoAbnormal

IMAGE, OTHER = torch.randn(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PSEUDO = PseudoAbnormal(OTHER, torch.ones(2, 1, 64, 64, dtype=torch.bool))


def build(**options) -> DRD:
    torch.manual_seed(0)
    return DRD(Teacher("resnet18", weights="random", stages=3), **options)


def close(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_branches_equal_the_formula(variant):
    system = build(variant=variant).eval()
    with torch.no_grad():
        torch.manual_seed(5)
        features = system(IMAGE, PSEUDO)
        torch.manual_seed(5)
        clean, abnormal = system.teacher(IMAGE), system.teacher(OTHER)
        disturbed = [n + 0.1 * torch.randn(n.shape) for n in abnormal]
        close(features.student, system.student(system.fusion(*clean)))
        close(features.pseudo_student, system.student(system.fusion(*disturbed)))
    close(features.pseudo_teacher, abnormal if variant == "paper" else disturbed)
    # The tolerance above tells the two apart.
    assert min((a - b).abs().mean() for a, b in zip(abnormal, disturbed)) > 0.05
    assert features.image is IMAGE and features.pseudo is PSEUDO


def test_each_branch_has_its_own_batch_statistics_the_clean_one_first():
    system, means = build().train(), []
    first = next(module for module in system.fusion.modules() if isinstance(module, nn.BatchNorm2d))
    first.register_forward_pre_hook(lambda module, inputs: means.append(inputs[0].detach().mean((0, 2, 3))))
    system(IMAGE, PSEUDO)
    assert len(means) == 2 and first.num_batches_tracked == 2
    with torch.no_grad():
        close([means[0]], [system.fusion.conv1[0](system.teacher(IMAGE)[0]).mean((0, 2, 3))])
    # Momentum 0.1, twice: what came last weighs more.
    torch.testing.assert_close(first.running_mean, 0.09 * means[0] + 0.1 * means[1])


def test_without_noise_nothing_is_disturbed():
    features = build(noise=0.0, variant="reference").eval()(IMAGE, PSEUDO._replace(image=IMAGE))
    close(features.pseudo_teacher, features.teacher)
    close(features.pseudo_student, features.student)


def test_noise_follows_the_global_generator_which_training_seeds():
    system, drawn = build().eval(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            drawn.append(system(IMAGE, PSEUDO).pseudo_student[0])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
