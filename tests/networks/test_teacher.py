from __future__ import annotations

import hashlib
import urllib.error

import pytest
import torch
from safetensors.torch import save_file

from monai_anomaly.errors import OptionError, WeightsError
from monai_anomaly.networks import SkipTS, Teacher
from monai_anomaly.networks.teacher import build_resnet

IMAGE = torch.linspace(-2, 2, 3 * 64 * 64).reshape(1, 3, 64, 64)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d"])
def test_features_equal_torchvisions_own_trunk(name):
    teacher, resnet = Teacher(name, weights="random", seed=3), build_resnet(name, seed=3).eval()
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(IMAGE))))
    with torch.no_grad():
        for stage, feature in enumerate(teacher(IMAGE), start=1):
            x = getattr(resnet, f"layer{stage}")(x)
            # Folding batch normalisation into the convolutions changes the rounding only.
            torch.testing.assert_close(feature, x, rtol=1e-4, atol=1e-4 * x.std().item())
            assert feature.shape[1] == teacher.channels[stage - 1] and 64 // feature.shape[2] == teacher.strides[stage - 1]


def test_blocks_of_its_kind_are_built_with_its_groups_and_width():
    names = ("resnet18", "wide_resnet50_2", "resnext50_32x4d")
    assert [Teacher(name, weights=None).block_options for name in names] == [
        {}, {"groups": 1, "base_width": 128}, {"groups": 32, "base_width": 4},
    ]  # fmt: skip


def test_only_the_stages_asked_for_are_built():
    teacher = Teacher("resnet18", weights="random", stages=2)
    assert len(teacher(IMAGE)) == 2 and not hasattr(teacher.backbone, "layer3")


def test_frozen_for_ever_and_without_graph():
    system = SkipTS(Teacher("resnet18", weights="random"))
    before = {k: v.clone() for k, v in system.teacher.state_dict().items()}
    system.train()
    assert system.student.training and not any(module.training for module in system.teacher.modules())
    optimizer = torch.optim.Adam([p for p in system.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        features = system(IMAGE.repeat(2, 1, 1, 1).requires_grad_())  # no graph either where somebody wants the image's gradient
        assert not any(t.requires_grad for t in features.teacher)
        optimizer.zero_grad()
        sum(s.square().mean() for s in features.student).backward()
        optimizer.step()
    assert all(p.grad is None for p in system.teacher.parameters())
    after = system.teacher.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_new_weights_are_used_at_once():
    """The copy that computes, with batch normalisation folded in, never outlives the weights it was made from."""
    a, b = Teacher("resnet18", weights="random", seed=1), Teacher("resnet18", weights="random", seed=2)
    assert not torch.equal(a(IMAGE)[0], b(IMAGE)[0])
    a.load_state_dict(b.state_dict())
    assert torch.equal(a(IMAGE)[0], b(IMAGE)[0])
    torch.testing.assert_close(a.double()(IMAGE.double())[0].float(), b(IMAGE)[0], rtol=1e-4, atol=1e-4)


def test_an_exporter_sees_the_published_weights_once():
    """The folded copy would be a second teacher in the file, and one that stays on the CPU when the rest is moved."""
    teacher = Teacher("resnet18", weights="random", seed=1)
    eager = teacher(IMAGE)
    traced = torch.jit.trace(teacher, IMAGE, check_trace=False)
    program = torch.export.export(teacher, (IMAGE,))
    graph = traced.inlined_graph
    assert not [node for node in graph.findAllNodes("prim::Constant") if node.output().type().kind() == "TensorType"]
    assert set(traced.state_dict()) == set(program.state_dict) == set(teacher.state_dict()) and not program.constants
    for exported in (traced, program.module()):
        for feature, expected in zip(exported(IMAGE), eager):
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-4 * expected.std().item())


def test_random_teacher_depends_on_its_seed_alone():
    torch.manual_seed(1)
    a = Teacher("resnet18", weights="random", seed=5)
    torch.manual_seed(2)
    b, c = Teacher("resnet18", weights="random", seed=5), Teacher("resnet18", weights="random", seed=6)
    assert a.sha256 == b.sha256 != c.sha256
    assert torch.equal(a(IMAGE)[3], b(IMAGE)[3])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_file_is_read_and_its_hash_told(tmp_path, suffix):
    state = build_resnet("resnet18", seed=9).state_dict()
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    teacher = Teacher("resnet18", weights=str(path))
    assert torch.equal(teacher(IMAGE)[3], Teacher("resnet18", weights="random", seed=9)(IMAGE)[3])
    assert teacher.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and teacher.source == path.name


def test_named_weights_are_found_in_torch_home_and_their_hash_is_checked(no_network, tmp_path):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(build_resnet("resnet18").state_dict(), folder / "resnet18-f37072fd.pth")
    with pytest.raises(WeightsError, match="f37072fd"):
        Teacher("resnet18", weights="IMAGENET1K_V1")


def test_without_network_the_error_names_three_ways_out(no_network):
    with pytest.raises(WeightsError) as caught:
        Teacher("resnet18")
    assert all(way in str(caught.value) for way in ("(1)", "(2)", "(3)", "--teacher_weights random"))


def test_the_fallback_is_loud(no_network, caplog):
    teacher = Teacher("resnet18", fallback="random")
    assert teacher.untrained and teacher.source == "random" and "UNTRAINED" in caplog.text and teacher.config["source"] == "random"


def test_weights_that_do_not_fit_are_refused(tmp_path):
    state = build_resnet("resnet18").state_dict()
    cases = {
        "missing": {k: v for k, v in state.items() if k != "layer1.0.conv1.weight"},
        "unknown": {**state, "student.weight": torch.zeros(1)},
        "of another shape": {**state, "conv1.weight": torch.zeros(64, 1, 7, 7)},
    }
    for word, wrong in cases.items():
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=word):
            Teacher("resnet18", weights=str(tmp_path / "wrong.pth"))


def test_a_pickle_is_refused_without_running_it(tmp_path):
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (canary.write_text, ("executed",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="nothing in it was executed"):
        Teacher("resnet18", weights=str(tmp_path / "evil.pth"))
    assert not canary.exists()


@pytest.mark.parametrize("name", ["vgg16", "resnet19", "fcn_resnet50", ""])
def test_other_models_are_refused(name):
    with pytest.raises(OptionError, match="torchvision ResNet"):
        Teacher(name, weights="random")


def test_unknown_names_and_files_are_refused(no_network):
    with pytest.raises(OptionError, match="IMAGENET1K_V1"):
        Teacher("resnet18", weights="IMAGENET22K")
    with pytest.raises(WeightsError, match=r"missing\.pth"):
        Teacher("resnet18", weights="missing.pth")


@pytest.mark.real
def test_the_shared_partial_teacher_loads_strictly(shared):
    teacher = Teacher("resnet18", weights=str(shared / "weights" / "resnet18_imagenet_stages1to3.pth"))
    assert (shared / "weights" / "SHA256SUMS").read_text().startswith(teacher.sha256)
    assert all(torch.isfinite(feature).all() and feature.std() > 0.01 for feature in teacher(IMAGE))


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)])
def test_two_batches_in_one_pass_give_what_two_passes_give(sizes):
    teacher = Teacher("resnet18", weights="random")
    image, other = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(sizes)
    of_image, of_other = teacher.pair(image, other)
    for together, alone in zip((*of_image, *of_other), (*teacher(image), *teacher(other)), strict=True):
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
        assert not together.requires_grad


def test_stages_that_only_one_batch_needs_are_run_for_it_alone():
    teacher = Teacher("resnet18", weights="random")
    seen = []
    teacher(torch.zeros(1, 3, 64, 64))
    for stage in ("layer3", "layer4"):
        teacher._folded[0].get_submodule(stage).register_forward_hook(lambda module, given, result: seen.append(len(result)))
    of_image, of_other = teacher.pair(torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64), other_stages=3)
    assert (len(of_image), len(of_other)) == (4, 3) and seen == [4, 2]
