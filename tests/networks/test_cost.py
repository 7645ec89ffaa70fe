"""Parameter and multiply-accumulate counts equal SPEC's to the last digit."""

from __future__ import annotations

import json

import pytest
from support.golden import GOLDEN

from monai_anomaly.networks import SkipTS, Teacher, TraditionalKD, count_cost


def cost(system):
    return {row.part: row[1:] for row in count_cost(system)}


def test_skip_ts_with_the_papers_teacher():
    rows = cost(SkipTS(Teacher("wide_resnet50_2", weights=None)))
    assert rows["teacher"] == (66_834_240, 0, 14_884_536_320)
    assert rows["student"] == (24_917_504, 24_917_504, 11_140_071_424)
    assert rows["total"] == (91_751_744, 24_917_504, 26_024_607_744)


@pytest.mark.parametrize(
    ("kernel", "blocks", "parameters", "macs"),
    [
        (2, (6, 4, 3), 34_511_360, 11_140_071_424),
        (3, (3, 4, 6), 40_400_384, 13_404_995_584),
        (3, (6, 4, 3), 49_994_240, 13_404_995_584),
    ],
)
def test_decoder_variants(kernel, blocks, parameters, macs):
    rows = cost(SkipTS(Teacher("wide_resnet50_2", weights=None), deconv_kernel=kernel, blocks=blocks))
    assert rows["student"] == (parameters, parameters, macs)


def test_resnet18():
    rows = cost(SkipTS(Teacher("resnet18", weights=None)))
    assert rows["teacher"] == (11_176_512, 0, 2_368_733_184)
    assert rows["student"] == (3_703_168, 3_703_168, 1_560_281_088)


def test_decoder_stages_and_three_stage_teacher():
    system = SkipTS(Teacher("wide_resnet50_2", weights=None))
    count = [sum(p.numel() for p in stage.parameters()) for stage in (system.student.D3, system.student.D2, system.student.D1)]
    assert count == [17_840_128, 5_317_632, 1_759_744]
    teacher = Teacher("wide_resnet50_2", weights=None, stages=3)
    assert sum(p.numel() for p in teacher.parameters()) == 24_862_528
    # Both encoders of traditional distillation run the same three stages.
    rows = cost(TraditionalKD(teacher))
    assert rows["total"][2] == 2 * 11_998_855_168 and rows["total"][1] == 24_862_528


def test_golden_counts_agree_with_the_specification_used_above():
    counts = json.dumps(json.loads((GOLDEN / "counts.json").read_text()))
    for number in ("24917504", "11140071424", "26024607744"):
        assert number in counts
