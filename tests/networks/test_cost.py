"""Parameter and multiply-accumulate counts equal SPEC's to the last digit."""

from __future__ import annotations

import json

import pytest
import torch
from support.golden import GOLDEN
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from monai_anomaly.networks import DRD, ESCDRKD, RD4AD, SCRD4AD, SkipTS, Teacher, TraditionalKD, count_cost
from monai_anomaly.transforms.pseudo import PseudoAbnormal

COUNTS = json.loads((GOLDEN / "counts.json").read_text())


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
    assert rows["stem"][2] + rows["student"][2] == 11_998_855_168


def build(system, backbone="wide_resnet50_2", **options):
    with torch.device("meta"):  # counting needs shapes alone
        return system(Teacher(backbone, weights=None, stages=system.stages), **options)


@pytest.mark.parametrize("backbone", ["wrn50_2", "resnet18"])
@pytest.mark.parametrize(("system", "part", "key"), [(RD4AD, "bottleneck", "ocbe"), (DRD, "fusion", "mfcf")])
def test_bottlenecks_without_the_convolution_that_is_never_called(system, part, key, backbone):
    counts = COUNTS[f"{key}_{backbone}"]
    parameters, trainable, macs = cost(build(system, "wide_resnet50_2" if backbone == "wrn50_2" else backbone))[part]
    assert parameters == trainable == counts["params_reference"] - counts["params_dead"] and macs == counts["macs"]


def test_projections_without_their_biases():
    counts = COUNTS["projection_wrn50_2"]
    system = build(ESCDRKD, proj_levels=(1, 2, 3))
    # In front of an instance normalisation: c/2 + c + c/2 + c/4 + c/2 + c of them.
    biases = [15 * c // 4 for c in (256, 512, 1024)]
    assert sum(biases) == counts["dead_biases"]
    for level, (reference, dead) in enumerate(zip(counts["params"], biases), start=1):
        assert sum(p.numel() for p in system.projections[str(level)].parameters()) == reference - dead
    masked = [conv.weight for projection in system.projections.values() for conv in projection.convs[:2]]
    assert sum(weight[:, :, 1, 1].numel() for weight in masked) == counts["masked_centre_weights"]
    # Evaluation runs two of the three.
    assert cost(system)["projections"][2] == 2 * counts["macs_each"]


def test_scale_head():
    assert cost(build(SCRD4AD))["scale_head"] == (COUNTS["scale_module"]["params"],) * 2 + (COUNTS["scale_module"]["macs"],)


@pytest.mark.parametrize(
    ("system", "key", "trainable"),
    [
        (SkipTS, "skip_ts", 24_917_504),
        (RD4AD, "rd4ad", 83_802_624),
        (ESCDRKD, "esc_drkd", 51_459_584),
        (SCRD4AD, "scrd4ad", 83_808_771),
        (DRD, "drd", 115_261_952),
    ],
)
def test_inference_of_the_whole(system, key, trainable):
    total = cost(build(system))["total"]
    assert total[1:] == (trainable, COUNTS["inference_macs_lean"][key])


@pytest.mark.parametrize(
    ("system", "options", "key", "noisy_stage_4"),
    [
        (SkipTS, {}, "skip_ts", 0),
        (RD4AD, {}, "rd4ad", 0),
        (ESCDRKD, {}, "esc_drkd_without_proj1_and_noisy_stage4", 0),
        (ESCDRKD, {"proj_levels": (1, 2, 3)}, "esc_drkd", COUNTS["teacher_wrn50_2"]["macs_by_part"]["stage4"]),
        (SCRD4AD, {}, "scrd4ad", 0),
        (DRD, {}, "drd", 0),
    ],
)
def test_a_training_step_computes_nothing_twice_and_nothing_in_vain(system, options, key, noisy_stage_4):
    """Forward and backward; the reference count of ESC-DRKD with all projections runs stage 4 for the pseudo-abnormal images too."""
    network = build(system, **options).to("meta").train()
    image = torch.empty(1, 3, 256, 256, device="meta")
    pseudo = (PseudoAbnormal(image, torch.empty(1, 1, 256, 256, dtype=torch.bool, device="meta")),) if system.needs_pseudo else ()
    with FlopCounterMode(display=False) as counter:
        features = network(image, *pseudo)
        fields = [field if isinstance(field, tuple) else (field,) for field in features]
        sum(t.sum() for field in fields for t in field if isinstance(t, Tensor) and t.requires_grad).backward()
    assert counter.get_total_flops() // 2 + noisy_stage_4 == round(COUNTS["train_step_gmac_lean"][key] * 1e9)
