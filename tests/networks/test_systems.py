"""What holds for every system: what it runs, what learns, and that a checkpoint's options rebuild it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from monai_anomaly.errors import OptionError
from monai_anomaly.networks import SYSTEMS, System, Teacher
from monai_anomaly.transforms.pseudo import PseudoAbnormal

CASES = [
    ("SkipTS", {"skips": 1}),
    ("TraditionalKD", {"seed": 5}),
    ("RD4AD", {"deconv_kernel": 3}),
    ("ESCDRKD", {}),
    ("ESCDRKD", {"proj_levels": (1, 2, 3), "blocks": (1, 2, 1)}),
    ("SCRD4AD", {"weight_floor": 0.05, "scale_pooling": "average"}),
    ("DRD", {"noise": 0.2, "variant": "reference"}),
]
all_systems = pytest.mark.parametrize(("name", "options"), CASES)


def build(name: str, options: dict, backbone: str = "resnet18", weights: str | None = "random"):
    torch.manual_seed(0)
    return SYSTEMS[name](Teacher(backbone, weights=weights, stages=SYSTEMS[name].stages), **options)


def images(n: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def arguments(system) -> tuple:
    """What a training step hands to the system."""
    image = images()
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[..., 20:40, 20:40] = True
    return (image, PseudoAbnormal(torch.where(mask, images(seed=1), image), mask)) if system.needs_pseudo else (image,)


def learned(features) -> list[Tensor]:
    """All tensors of the record that have a graph, and so come from what is trained."""
    fields = (field if isinstance(field, tuple) else (field,) for field in features)
    return [tensor for field in fields for tensor in field if isinstance(tensor, Tensor) and tensor.requires_grad]


def tensors(features) -> dict[str, Tensor]:
    return {
        f"{name}_{k}": tensor
        for name, field in features._asdict().items()
        for k, tensor in enumerate(field if isinstance(field, tuple) else (field,))
        if isinstance(tensor, Tensor)
    }


@all_systems
def test_in_a_training_step_every_trainable_parameter_learns_and_the_teacher_does_not(name, options):
    """DDP waits for each parameter's gradient: none may be without."""
    system = build(name, options).train()
    features = system(*arguments(system))
    assert not any(t.requires_grad for t in (*features.teacher, *(features.pseudo_teacher or ())))
    # The first scale weight, because the sum of all of them is 1 whatever the head does.
    sum(tensor[:, 0].square().sum() for tensor in learned(features)).backward()
    without = [key for key, p in system.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    assert all(p.grad is None and not p.requires_grad for p in system.teacher.parameters())


@all_systems
def test_the_teacher_runs_once_in_a_step_for_clean_and_pseudo_images_together(name, options, monkeypatch):
    system, batches = build(name, options).train(), []
    stem = Teacher._stem
    monkeypatch.setattr(Teacher, "_stem", lambda self, image: batches.append(len(image)) or stem(self, image))
    system(*arguments(system))
    system(images())
    assert batches == [4 if system.needs_pseudo else 2, 2]


@all_systems
def test_without_pseudo_images_training_mode_computes_what_evaluation_does(name, options):
    """The pass that measures batch statistics: only what batch normalisation uses may differ."""
    system = build(name, options)
    with torch.no_grad():
        evaluated = tensors(system.eval()(images()))
        system.train()
        for module in system.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        trained = tensors(system(images()))
    assert evaluated.keys() == trained.keys() and not any(key.startswith("pseudo") for key in evaluated)
    assert all(torch.equal(evaluated[key], trained[key]) for key in evaluated)


@all_systems
def test_each_image_is_judged_on_its_own(name, options):
    system = build(name, options).double().eval()
    batch = images(3).double()
    with torch.no_grad():
        together = tensors(system(batch))
        alone = [tensors(system(image.unsqueeze(0))) for image in batch]
    for key, values in together.items():
        torch.testing.assert_close(values, torch.cat([single[key] for single in alone]), rtol=1e-6, atol=1e-6)


@all_systems
def test_a_checkpoints_options_rebuild_the_system(name, options):
    system = build(name, options)
    for module in system.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    rebuilt = SYSTEMS[name](Teacher("resnet18", weights=None, stages=system.stages), **json.loads(json.dumps(system.config)))
    rebuilt.load_state_dict(system.state_dict())
    assert rebuilt.config == system.config and {key: system.config[key] for key in options} == json.loads(json.dumps(options))
    outputs = []
    for one in (system, rebuilt):
        torch.manual_seed(3)  # DRD draws noise
        with torch.no_grad():
            outputs.append(tensors(one.eval()(*arguments(one))))
    assert outputs[0].keys() == outputs[1].keys() and all(torch.equal(outputs[0][key], outputs[1][key]) for key in outputs[0])


@pytest.mark.parametrize("backbone", ["resnet34", "resnet50", "resnext50_32x4d", "wide_resnet101_2"])
@pytest.mark.parametrize("name", ["RD4AD", "ESCDRKD", "SCRD4AD", "DRD"])
def test_other_teachers(name, backbone):
    """On the meta device, where a network has shapes and no values."""
    with torch.device("meta"):
        system = build(name, {}, backbone, weights=None).train()
        mask = torch.ones(2, 1, 96, 64, dtype=torch.bool)
        image = torch.zeros(2, 3, 96, 64)
        features = system(image, PseudoAbnormal(image, mask)) if system.needs_pseudo else system(image)
    shapes = [(2, c, 96 // stride, 64 // stride) for c, stride in zip(system.teacher.channels[:3], (4, 8, 16))]
    for levels in (features.teacher, features.student, features.pseudo_teacher, features.pseudo_student):
        assert levels is None or [tuple(level.shape) for level in levels] == shapes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ESCDRKD", {"proj_levels": (3,)}),
        ("ESCDRKD", {"proj_levels": (3, 2)}),
        ("ESCDRKD", {"proj_levels": 2}),
        ("SCRD4AD", {"weight_floor": 1 / 3}),
        ("SCRD4AD", {"weight_floor": -0.1}),
        ("SCRD4AD", {"weight_floor": float("nan")}),
        ("SCRD4AD", {"scale_pooling": "sum"}),
        ("DRD", {"noise": -1}),
        ("DRD", {"noise": float("nan")}),
        ("DRD", {"noise": float("inf")}),
        ("DRD", {"variant": "released"}),
        ("RD4AD", {"blocks": (3, 4)}),
        ("RD4AD", {"blocks": 3}),
        ("DRD", {"blocks": (3, 4, 10**9)}),
    ],
)
def test_options_out_of_bounds_are_refused(name, options):
    with pytest.raises(OptionError, match="expected"):
        build(name, options, weights=None)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_a_teacher_with_another_number_of_stages_is_refused(name):
    with pytest.raises(OptionError, match=f"stages={SYSTEMS[name].stages}"):
        SYSTEMS[name](Teacher("resnet18", weights=None, stages=7 - SYSTEMS[name].stages))


def test_a_name_that_is_taken_is_refused_because_checkpoints_go_by_it():
    with pytest.raises(OptionError, match=r"defines a system DRD, as monai_anomaly.networks.drd does; expected a name of its own"):
        type("DRD", (System,), {"stages": 3})
    assert SYSTEMS["DRD"].__module__ == "monai_anomaly.networks.drd"
