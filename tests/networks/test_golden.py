"""Teachers and decoders against the released networks, filled with the same closed-form weights."""

from __future__ import annotations

import pytest
import torch
from support.golden import assert_summary, fill, load, teacher_feature, uniform

from monai_anomaly.networks import SkipTS, Teacher

F = [teacher_feature((1, 256 * 2**k, 16 // 2**k, 16 // 2**k), 600 + 10 * k) for k in range(4)]


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
