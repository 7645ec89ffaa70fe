from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_anomaly.networks import Teacher
from monai_anomaly.networks.bottleneck import OCBE
from monai_anomaly.networks.fusion import MFCF


@pytest.mark.parametrize("kind", [OCBE, MFCF])
def test_convolutions_start_as_the_released_ones(kind):
    """Kaiming normal with fan out: variance 2 / (out channels x kernel area); batch normalisation starts as the identity."""
    torch.manual_seed(0)
    bottleneck = kind(Teacher("resnet18", weights=None, stages=3))
    for module in bottleneck.modules():
        if isinstance(module, nn.Conv2d):
            expected = math.sqrt(2 / (module.out_channels * module.kernel_size[0] ** 2))
            assert abs(module.weight.std().item() / expected - 1) < 0.02 and module.bias is None
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all() and module.bias.eq(0).all()


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 2), ("resnet34", 3), ("resnet50", 3)])
def test_the_residual_stage_has_as_many_blocks_as_the_teachers_fourth(name, blocks):
    with torch.device("meta"):
        teacher = Teacher(name, weights=None, stages=3)
        for bottleneck in (OCBE(teacher), MFCF(teacher)):
            assert len(bottleneck.residual) == blocks and {type(block) for block in bottleneck.residual} == {teacher.block}


@pytest.mark.parametrize("kind", [OCBE, MFCF])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_counts(kind, level):
    torch.manual_seed(0)
    bottleneck = kind(Teacher("resnet18", weights=None, stages=3)).eval()
    features = [torch.rand(1, c, n, n) for c, n in ((64, 16), (128, 8), (256, 4))]
    with torch.no_grad():
        before = bottleneck(*features)
        features[level] = features[level] + 1
        assert not torch.allclose(before, bottleneck(*features), atol=1e-2)
