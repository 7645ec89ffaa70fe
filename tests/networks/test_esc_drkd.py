from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from monai_anomaly.networks import ESCDRKD, Teacher
from monai_anomaly.networks.projection import CentreMaskedConv2d, Projection
from monai_anomaly.transforms.pseudo import PseudoAbnormal

IMAGE, OTHER = torch.randn(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
PSEUDO = PseudoAbnormal(OTHER, torch.ones(2, 1, 64, 64, dtype=torch.bool))


def build(**options) -> ESCDRKD:
    torch.manual_seed(0)
    return ESCDRKD(Teacher("resnet18", weights="random"), **options)


def test_masked_centres_get_no_gradient_and_have_no_effect():
    torch.manual_seed(0)
    projection = Projection(16)
    x = torch.rand(2, 16, 8, 8)
    before = projection(x)
    before.square().sum().backward()
    masked = [conv for conv in projection.modules() if isinstance(conv, CentreMaskedConv2d)]
    assert len(masked) == 2
    for conv in masked:
        assert conv.weight.grad[:, :, 1, 1].eq(0).all() and conv.weight.grad.ne(0).sum() == conv.weight.numel() * 8 // 9
        with torch.no_grad():
            conv.weight[:, :, 1, 1] = 7.0
    assert torch.equal(before, projection(x))


def test_projection_equals_numpy():
    """Convolution, instance normalisation and LeakyReLU, six times, written a second time."""
    torch.manual_seed(0)
    projection, x = Projection(8).double(), torch.randn(1, 8, 6, 5, dtype=torch.float64)
    expected = x[0].numpy()
    for k, conv in enumerate(projection.convs):
        weight = conv.weight.detach().numpy().copy()
        if k < 2:
            weight[:, :, 1, 1] = 0
        expected = np.stack([sum(correlate2d(channel, kernel, "same") for channel, kernel in zip(expected, kernels)) for kernels in weight])
        mean, variance = expected.mean((1, 2), keepdims=True), expected.var((1, 2), keepdims=True)
        expected = (expected - mean) / np.sqrt(variance + 1e-5)
        expected = np.where(expected > 0, expected, 0.01 * expected)
    np.testing.assert_allclose(projection(x)[0].detach(), expected, atol=1e-9)
    assert [conv.out_channels for conv in projection.convs] == [4, 8, 4, 2, 4, 8]


def test_in_training_skips_come_from_the_pseudo_image_and_the_rest_from_the_clean_one():
    system = build(proj_levels=(1, 2, 3)).eval()
    with torch.no_grad():
        features = system(IMAGE, PSEUDO)
        clean, pseudo = system.teacher(IMAGE), system.teacher(OTHER)
        p1, p2, p3 = (system.projections[str(level)](pseudo[level - 1]) for level in (1, 2, 3))
        s3 = system.student.D3(clean[3])
        s2 = system.student.D2(s3 + p3)
        s1 = system.student.D1(s2 + p2)
    for found, expected in ((features.teacher, clean[:3]), (features.projected, (p1, p2, p3)), (features.student, (s1, s2, s3))):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert min(level.min() for level in features.projected) < 0, "a ReLU on the sum would have something to do"


def test_in_evaluation_the_image_that_is_judged_is_projected():
    system = build().eval()
    with torch.no_grad():
        features, teacher = system(IMAGE), system.teacher(IMAGE)
        p2, p3 = system.projections["2"](teacher[1]), system.projections["3"](teacher[2])
        student = system.student(teacher[3], skip3=p3, skip2=p2)
    assert features.projected[0] is None and torch.equal(features.projected[1], p2) and torch.equal(features.projected[2], p3)
    assert all(torch.equal(a, b) for a, b in zip(features.student, student, strict=True))


def test_the_fourth_stage_runs_for_clean_images_alone():
    system, seen = build(), []
    system.teacher._fold().layer4.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    system(IMAGE, PSEUDO)
    assert seen == [2]


def test_the_first_projection_changes_nothing_but_the_reported_loss():
    """Both systems start alike; the student's gradients and outputs are the same, and evaluation does not run it."""
    three = build(proj_levels=(1, 2, 3))
    two = build()
    two.load_state_dict({key: value for key, value in three.state_dict().items() if not key.startswith("projections.1.")})
    gradients = []
    for system in (two, three):
        features = system.train()(IMAGE, PSEUDO)
        sum(s.square().mean() for s in (*features.student, *filter(lambda p: p is not None, features.projected))).backward()
        gradients.append(
            {key: p.grad for key, p in system.named_parameters() if p.grad is not None and not key.startswith("projections.1.")}
        )
    assert gradients[0].keys() == gradients[1].keys() and all(torch.equal(gradients[0][key], gradients[1][key]) for key in gradients[0])
    assert three.projections["1"].convs[0].weight.grad is not None
    assert three.eval()(IMAGE).projected[0] is None


def test_projections_are_the_first_group_of_trained_parameters():
    """The recipe's optimiser lists two groups, projections first."""
    assert [name for name, _ in build().named_children()] == ["teacher", "projections", "student"]


@pytest.mark.parametrize("mode", [True, False])
def test_an_image_of_32_pixels_works(mode):
    assert build().train(mode)(torch.rand(2, 3, 32, 32)).student[2].shape == (2, 256, 2, 2)
