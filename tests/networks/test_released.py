"""Checkpoints in the layout of the released codes: modules with their names and all that is dead in them, written again here, and run directly."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_anomaly._torchvision import torchvision
from monai_anomaly.errors import CheckpointError, OptionError
from monai_anomaly.networks import DRD, ESCDRKD, RD4AD, SCRD4AD, SkipTS, Teacher, TraditionalKD, load_released

BasicBlock = torchvision.models.resnet.BasicBlock
IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """``BN_layer`` of RD4AD (cascade=False) and of DRD (cascade=True) for a ResNet-18."""

    def __init__(self, cascade: bool):
        super().__init__()
        self.cascade, width = cascade, 256 if cascade else 768
        shortcut = nn.Sequential(conv(width, 512, 1, 2), nn.BatchNorm2d(512))
        self.bn_layer = nn.Sequential(BasicBlock(width, 512, 2, shortcut), BasicBlock(512, 512))
        self.conv1, self.bn1 = conv(64, 128, 3, 2), nn.BatchNorm2d(128)
        self.conv2, self.bn2 = (conv(256, 512, 3, 2), nn.BatchNorm2d(512)) if cascade else (conv(128, 256, 3, 2), nn.BatchNorm2d(256))
        self.conv3, self.bn3 = (conv(768, 256, 3), nn.BatchNorm2d(256)) if cascade else (conv(128, 256, 3, 2), nn.BatchNorm2d(256))
        self.conv4, self.bn4 = conv(1024, 512, 1), nn.BatchNorm2d(512)

    def forward(self, t1: Tensor, t2: Tensor, t3: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(t1)))
        if self.cascade:
            x = torch.relu(self.bn2(self.conv2(torch.cat([x, t2], 1))))
            return self.bn_layer(torch.relu(self.bn3(self.conv3(torch.cat([x, t3], 1)))))
        a, b = torch.relu(self.bn2(self.conv2(x))), torch.relu(self.bn3(self.conv3(t2)))
        return self.bn_layer(torch.cat([a, b, t3], 1))


class Block(nn.Module):
    def __init__(self, channels: int, planes: int, up: bool):
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(channels, planes, 2, 2, bias=False) if up else conv(channels, planes, 3)
        self.bn1, self.conv2, self.bn2 = nn.BatchNorm2d(planes), conv(planes, planes, 3), nn.BatchNorm2d(planes)
        shortcut = nn.ConvTranspose2d(channels, planes, 2, 2, bias=False)
        self.upsample = nn.Sequential(shortcut, nn.BatchNorm2d(planes)) if up else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.upsample(x))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        for k, planes in enumerate((256, 128, 64), start=1):
            setattr(self, f"layer{k}", nn.Sequential(Block(2 * planes, planes, True), Block(planes, planes, False)))

    def forward(self, x: Tensor, skip3: Tensor | float = 0.0, skip2: Tensor | float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        s3 = self.layer1(x)
        s2 = self.layer2(s3 + skip3)
        return self.layer3(s2 + skip2), s2, s3


class ProjLayer(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.mc1, self.mc2 = nn.Conv2d(c, c // 2, 3, padding=1), nn.Conv2d(c // 2, c, 3, padding=1)
        for masked in (self.mc1, self.mc2):
            masked.register_buffer("mask", torch.ones_like(masked.weight))
            masked.mask[:, :, 1, 1] = 0
        self.conv1, self.conv2 = nn.Conv2d(c, c // 2, 3, padding=1), nn.Conv2d(c // 2, c // 4, 3, padding=1)
        self.conv3, self.conv4 = nn.Conv2d(c // 4, c // 2, 3, padding=1), nn.Conv2d(c // 2, c, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for masked in (self.mc1, self.mc2):
            x = F.leaky_relu(F.instance_norm(F.conv2d(x, masked.weight * masked.mask, masked.bias, padding=1)))
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.leaky_relu(F.instance_norm(layer(x)))
        return x


def trained(module: nn.Module, seed: int) -> nn.Module:
    """Values as after some training: no batch normalisation is the identity, no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not key.endswith("mask"):
            if value.ndim > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5, generator=generator)
            else:
                value.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


class Released:
    def __init__(self):
        self.ocbe, self.mfcf, self.decoder = trained(Bottleneck(False), 1), trained(Bottleneck(True), 2), trained(Decoder(), 3)
        self.proj = trained(nn.ModuleDict({f"proj_{letter}": ProjLayer(c) for letter, c in zip("abc", (64, 128, 256))}), 4)
        self.encoder, self.mlp = trained(torchvision.models.resnet18(), 5), trained(nn.Linear(512, 3), 6)

    def checkpoint(self, name: str) -> dict:
        decoder = self.decoder.state_dict()
        if name == "SkipTS":
            return decoder
        if name == "ESCDRKD":
            return {"proj_layer": self.proj.state_dict(), "decoder": decoder}
        if name == "SCRD4AD":
            return nn.ModuleDict({"encoder": self.encoder, "bn": self.ocbe, "decoder": self.decoder, "mlp": self.mlp}).state_dict()
        return {"bn": (self.mfcf if name == "DRD" else self.ocbe).state_dict(), "decoder": decoder}

    def student(self, name: str, t: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if name == "SkipTS":
            return self.decoder(t[3], t[2], t[1])
        if name == "ESCDRKD":
            return self.decoder(t[3], self.proj["proj_c"](t[2]), self.proj["proj_b"](t[1]))
        return self.decoder((self.mfcf if name == "DRD" else self.ocbe)(*t))


SYSTEMS = {system.__name__: system for system in (SkipTS, RD4AD, ESCDRKD, SCRD4AD, DRD)}
UNCALLED = {"bn.conv4.weight", *(f"bn.bn4.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))}


@pytest.fixture(scope="module")
def released():
    return Released()


def build(name: str, **options):
    return SYSTEMS[name](Teacher("resnet18", weights="random", stages=SYSTEMS[name].stages), **options)


def save(state: object, folder) -> object:
    torch.save(state, folder / "released.pth")
    return folder / "released.pth"


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_released_checkpoint_gives_the_released_outputs(released, tmp_path, name):
    system = build(name).eval()
    path = save(released.checkpoint(name), tmp_path)
    aside = set(load_released(system, path))
    with torch.no_grad():
        features = system(IMAGE)
        for ours, theirs in zip(features.student, released.student(name, system.teacher(IMAGE)), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.std().item())
    if name in ("RD4AD", "DRD"):
        assert aside == UNCALLED
    elif name == "ESCDRKD":
        assert all(key.startswith("proj_layer.") and (".proj_a." in key or key.endswith((".bias", ".mask"))) for key in aside)
        assert len(aside) == (6 + 6 + 2) + 2 * (6 + 2)
    elif name == "SCRD4AD":
        assert aside > UNCALLED and all(key in UNCALLED or key.startswith(("encoder.layer4.", "encoder.fc.")) for key in aside)
    else:
        assert not aside


def test_scrd4ad_brings_its_teacher_and_its_scale_head_along(released, tmp_path):
    system = build("SCRD4AD").eval()
    before = system(IMAGE).teacher[0]  # the folded copy of the first teacher must not survive
    path = save(released.checkpoint("SCRD4AD"), tmp_path)
    load_released(system, path)
    net, features = released.encoder, system(IMAGE)
    with torch.no_grad():
        t1 = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(IMAGE)))))
        t2 = net.layer2(t1)
        weights = released.mlp(released.ocbe(t1, t2, net.layer3(t2)).amax((2, 3))).softmax(1)
    torch.testing.assert_close(features.teacher[0], t1, rtol=1e-4, atol=1e-4 * t1.std().item())
    torch.testing.assert_close(features.scale_weights, weights, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(before, features.teacher[0])
    assert system.teacher.source == path.name and system.teacher.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_escdrkd_with_all_three_projections(released, tmp_path):
    system = build("ESCDRKD", proj_levels=(1, 2, 3)).eval()
    aside = load_released(system, save(released.checkpoint("ESCDRKD"), tmp_path))
    assert len(aside) == 3 * (6 + 2) and all(key.endswith((".bias", ".mask")) for key in aside)
    t1 = system.teacher(IMAGE)[0]
    torch.testing.assert_close(system.projections["1"](t1), released.proj["proj_a"](t1), rtol=1e-3, atol=1e-4)
    # What lies under the mask is not carried along into our own checkpoints.
    assert system.projections["1"].convs[0].weight[:, :, 1, 1].eq(0).all()
    assert released.proj["proj_a"].mc1.weight[:, :, 1, 1].ne(0).all()


def without(state: dict, part: str, key: str) -> dict:
    return {**state, part: {k: v for k, v in state[part].items() if k != key}}


@pytest.mark.parametrize(
    ("word", "change"),
    [
        (r"missing: bn\.conv2\.weight \(1\)", lambda state: without(state, "bn", "conv2.weight")),
        (r"missing: decoder\.layer1\.0\.upsample\.1\.running_mean", lambda s: without(s, "decoder", "layer1.0.upsample.1.running_mean")),
        (r"unknown: bn\.conv5\.weight", lambda s: {**s, "bn": {**s["bn"], "conv5.weight": torch.zeros(1)}}),
        (r"unknown: student\.D3\.0\.conv1\.weight", lambda s: {**s, "student": {"D3.0.conv1.weight": torch.zeros(512, 256, 2, 2)}}),
        (r"of another shape: bn\.conv1\.weight", lambda s: {**s, "bn": {**s["bn"], "conv1.weight": torch.zeros(128, 64, 1, 1)}}),
        (r"holds int under 'epoch'", lambda s: {**s, "epoch": 3}),
        (r"holds dict under 'bn\.more'", lambda s: {**s, "bn": {**s["bn"], "more": {"weight": torch.zeros(1)}}}),
        (r"missing", lambda s: {}),
    ],
)
def test_anything_else_is_refused_and_nothing_is_changed(released, tmp_path, word, change):
    system = build("RD4AD")
    before = {key: value.clone() for key, value in system.state_dict().items()}
    with pytest.raises(CheckpointError, match=word):
        load_released(system, save(change(released.checkpoint("RD4AD")), tmp_path))
    assert all(torch.equal(before[key], value) for key, value in system.state_dict().items())


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_checkpoint_of_another_code_is_refused(released, tmp_path, name):
    for other in SYSTEMS:
        if other != name:
            with pytest.raises(CheckpointError):
                load_released(build(name), save(released.checkpoint(other), tmp_path))


def test_other_options_than_the_checkpoints_are_refused(released, tmp_path):
    with pytest.raises(CheckpointError, match=r"unknown: decoder\.layer1\.1"):
        load_released(build("RD4AD", blocks=(1, 2, 2)), save(released.checkpoint("RD4AD"), tmp_path))


def test_a_pickled_module_is_refused_without_being_executed(released, tmp_path):
    """As SCRD4AD's own training saves it."""
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        load_released(build("SCRD4AD"), save(released.mlp, tmp_path))


def test_systems_without_released_code_are_refused(tmp_path):
    with pytest.raises(OptionError, match="RD4AD"):
        load_released(TraditionalKD(Teacher("resnet18", weights=None, stages=3)), tmp_path / "any.pth")


def test_leftovers_of_older_versions_of_rd4ad_are_left_aside(released, tmp_path):
    state = released.checkpoint("RD4AD")
    state["bn"]["memory.keys"] = torch.zeros(3)
    assert set(load_released(build("RD4AD"), save(state, tmp_path))) == {*UNCALLED, "bn.memory.keys"}
