"""Every network against its released one, filled with the same closed-form weights. All entries are the released codes' values; without the dead parts
(an unused convolution, biases that an instance normalisation removes) ours give the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden import assert_summary, fill, load, teacher_feature, uniform

from monai_anomaly.networks import DRD, ESCDRKD, RD4AD, SCRD4AD, SkipTS, Teacher
from monai_anomaly.networks.projection import CentreMaskedConv2d, Projection

F = [teacher_feature((1, 256 * 2**k, 16 // 2**k, 16 // 2**k), 600 + 10 * k) for k in range(4)]
R = [teacher_feature((1, 64 * 2**k, 16 // 2**k, 16 // 2**k), 700 + 10 * k) for k in range(3)]


@pytest.fixture(scope="module")
def networks():
    return load("networks.npz")


@pytest.fixture(scope="module")
def wide_teacher():
    return fill(Teacher("wide_resnet50_2", weights=None))


@pytest.mark.parametrize(("name", "stages"), [("wide_resnet50_2", 4), ("resnet18", 3)])
def test_teacher_features_equal_the_released_ones(networks, wide_teacher, name, stages):
    teacher = wide_teacher if name == "wide_resnet50_2" else fill(Teacher(name, weights=None, stages=stages))
    key = {"wide_resnet50_2": "teacher_wrn50_2", "resnet18": "teacher_resnet18"}[name]
    for stage, feature in enumerate(teacher(uniform((1, 3, 64, 64), 500, -2, 2)), start=1):
        assert_summary(feature, networks, f"{key}/stage{stage}")


@pytest.mark.parametrize(("skips", "blocks", "key"), [(0, None, "res1"), (1, None, "res2"), (2, None, "res3"), (2, (6, 4, 3), "643_res3")])
def test_student_features_equal_the_released_ones(networks, wide_teacher, monkeypatch, skips, blocks, key):
    system = SkipTS(wide_teacher, skips=skips, blocks=blocks)
    fill(system.student)
    system.eval()
    monkeypatch.setattr(system.teacher, "forward", lambda image: tuple(F))
    with torch.no_grad():
        features = system(torch.zeros(1, 3, 64, 64))
    for level, student in enumerate(features.student, start=1):
        assert_summary(student, networks, f"skipts_decoder_{key}/level{level}")


@pytest.mark.parametrize("name", ["wide_resnet50_2", "resnet18"])
@pytest.mark.parametrize(("system", "part", "key"), [(RD4AD, "bottleneck", "rd"), (DRD, "fusion", "drd")])
def test_bottleneck_and_student_equal_the_released_ones(networks, monkeypatch, system, part, key, name):
    features, short = (F[:3], "wrn50_2") if name == "wide_resnet50_2" else (R, "resnet18")
    network = fill(system(Teacher(name, weights=None, stages=3))).eval()
    monkeypatch.setattr(network.teacher, "forward", lambda image: tuple(features))
    with torch.no_grad():
        assert_summary(getattr(network, part)(*features), networks, f"{key}_bottleneck_{short}/out")
        for level, student in enumerate(network(torch.zeros(1, 3, 64, 64)).student, start=1):
            assert_summary(student, networks, f"{key}_decoder_{short}/level{level}")


def test_escdrkd_student_equals_the_released_one(networks, wide_teacher, monkeypatch):
    """The released decoder alone: projections stand aside, so that the skips are the features themselves."""
    system = ESCDRKD(wide_teacher).eval()
    fill(system.student)
    monkeypatch.setattr(system.teacher, "forward", lambda image: tuple(F))
    for projection in system.projections.values():
        monkeypatch.setattr(projection, "forward", lambda x: x)
    with torch.no_grad():
        for level, student in enumerate(system(torch.zeros(1, 3, 64, 64)).student, start=1):
            assert_summary(student, networks, f"esc_decoder/level{level}")


@pytest.mark.parametrize("level", [1, 2, 3])
def test_projection_equals_the_released_one_without_its_biases(networks, level):
    shape = [(2, 16, 16, 16), (2, 32, 8, 8), (2, 64, 4, 4)][level - 1]
    with torch.no_grad():
        projected = fill(Projection(shape[1]))(teacher_feature(shape, 790 + 10 * level))
    assert_summary(projected, networks, f"esc_proj_base4/level{level}")


def test_centre_masked_convolution_equals_the_released_one(networks):
    conv = fill(CentreMaskedConv2d(3, 4))
    with torch.no_grad():
        out = conv(torch.from_numpy(networks["esc_masked_conv/in"])) + uniform((4,), 2, -0.05, 0.05)[:, None, None]
        np.testing.assert_allclose(out, networks["esc_masked_conv/out"], atol=1e-6)
        np.testing.assert_array_equal(conv.weight * conv.mask, networks["esc_masked_conv/weight_after"])


def test_scrd4ad_equals_the_released_one(networks):
    system = fill(SCRD4AD(Teacher("wide_resnet50_2", weights=None, stages=3))).eval()
    with torch.no_grad():
        features = system(uniform((2, 3, 64, 64), 510, -2, 2))
        np.testing.assert_allclose(features.scale_weights, networks["scrd_RdadAtten/weights"], atol=1e-5)
        for level in (1, 2, 3):
            assert_summary(features.teacher[level - 1], networks, f"scrd_RdadAtten/teacher{level}")
            assert_summary(features.student[level - 1], networks, f"scrd_RdadAtten/student{level}")
        # The released class whose name says max is the one that pools by the average.
        system.scale_head.pooling = "average"
        average = system.scale_head(system.bottleneck(*features.teacher))
        np.testing.assert_allclose(average, networks["scrd_RdadAttenMax/weights"], atol=1e-5)
