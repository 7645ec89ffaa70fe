"""The frozen encoder whose features the students learn to reproduce (the teacher of all systems)."""

from __future__ import annotations

import copy
import itertools
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .._torchvision import torchvision
from ..errors import OptionError, WeightsError
from .weights import RANDOM, TeacherWeights, find_weights, load_into, random_weights

__all__ = ["Teacher", "build_resnet"]

logger = logging.getLogger(__name__)


def build_resnet(name: str, seed: int = 0) -> torchvision.models.ResNet:
    """Build a torchvision ResNet without weights, from its own generator state, so that the order of construction never matters.

    Args:
        name: ``resnet18/34/50/101/152``, ``resnext50_32x4d``, ..., ``wide_resnet50_2``, ``wide_resnet101_2``.
        seed: seed of the initialisation.

    Raises:
        OptionError: torchvision has no ResNet of this name.
    """
    known = [model for model in torchvision.models.list_models(module=torchvision.models) if "resne" in model]
    if name not in known:
        raise OptionError(f"There is no torchvision ResNet called {name!r}; expected one of {', '.join(known)}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torchvision.models.get_model(name, weights=None)


class Teacher(nn.Module):
    """A torchvision ResNet, frozen and in evaluation mode for ever, that returns the features of its first stages.

    Features are taken after the last ReLU of each stage, so they are never negative. No graph is kept, whatever mode surrounds the call; stages
    beyond ``stages`` and the classifier are not built.

    Args:
        name: a torchvision ResNet, for example ``"resnet18"`` or ``"wide_resnet50_2"`` (the papers' teacher).
        weights: a torchvision weight name (downloaded or found in ``TORCH_HOME``), a local ``.pth``/``.safetensors`` file, ``"random"``, or ``None``
            when a checkpoint is loaded right afterwards.
        stages: how many of the four stages are run and returned (Skip-TS and ESC-DRKD: 4; RD4AD, SCRD4AD, DRD: 3).
        fallback: ``"random"``: carry on with an untrained teacher, and say so, when ``weights`` cannot be had; ``None``: raise.
        seed: seed of a random teacher.

    Attributes:
        channels: channels of each returned feature, finest first.
        strides: input pixels per feature pixel, for each returned feature.
        source: where the weights came from, ``"random"`` for an untrained teacher.
        sha256: SHA-256 of the weight file (of the values, for an untrained teacher).

    Raises:
        WeightsError: the weights cannot be had or do not fit, and there is no fallback.
        OptionError: unknown model or weight name.

    Example:
        >>> teacher = Teacher("resnet18", weights="random")
        >>> [tuple(feature.shape) for feature in teacher(torch.zeros(1, 3, 64, 64))]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 512, 2, 2)]
    """

    def __init__(
        self, name: str = "resnet18", weights: str | None = "IMAGENET1K_V1", stages: int = 4, fallback: str | None = None, seed: int = 0
    ):
        super().__init__()
        if stages not in (1, 2, 3, 4):
            raise OptionError(f"A ResNet has stages 1 to 4; the teacher was asked for {stages}.")
        if fallback not in (None, RANDOM):
            raise OptionError(f"The teacher's fallback is {fallback!r}; expected 'random' or nothing.")
        resnet = build_resnet(name, seed)
        self.name = name
        self.seed = seed
        self.backbone = nn.Module()
        for part in ("conv1", "bn1", *(f"layer{stage}" for stage in range(1, stages + 1))):
            self.backbone.add_module(part, getattr(resnet, part))
        self.stages = stages
        self.block: Any = type(resnet.layer1[0])
        self.blocks = tuple(len(getattr(resnet, f"layer{stage}")) for stage in range(1, 5))
        self.groups, self.base_width = resnet.groups, resnet.base_width
        self.channels = tuple(planes * self.block.expansion for planes in (64, 128, 256, 512)[:stages])
        self.strides = (4, 8, 16, 32)[:stages]
        self.source, self.sha256 = "checkpoint", ""
        if weights is not None:
            found = self._obtain(weights, fallback)
            load_into(self.backbone, found)
            self.source, self.sha256 = found.source, found.sha256
        self.requires_grad_(False)
        self.train(False)
        self._folded: list[nn.Module] = []
        self.register_load_state_dict_post_hook(_forget_folded)

    def _obtain(self, weights: str, fallback: str | None) -> TeacherWeights:
        if weights == RANDOM:
            logger.warning(
                "The teacher %s is UNTRAINED (random weights, seed %d): scores will be much weaker than with ImageNet weights.",
                self.name,
                self.seed,
            )
            return random_weights(self.backbone)
        try:
            return find_weights(self.name, weights)
        except WeightsError as error:
            if fallback != RANDOM:
                raise
            logger.warning(
                "NO IMAGENET WEIGHTS: %s On the built-in study the run carries on with an UNTRAINED %s teacher (seed %d), which shows how everything "
                "works, and whose scores separate less than a trained one's.", error, self.name, self.seed,
            )  # fmt: skip
            return random_weights(self.backbone)

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the teacher."""
        return {"name": self.name, "stages": self.stages, "seed": self.seed, "source": self.source, "sha256": self.sha256}

    @property
    def untrained(self) -> bool:
        """Whether its weights are random ones."""
        return self.source == RANDOM

    @property
    def block_options(self) -> dict[str, int]:
        """What a block of the teacher's kind is built with, beside its channels; a basic block has no groups and no width of its own."""
        basic = self.block is torchvision.models.resnet.BasicBlock
        return {} if basic else {"groups": self.groups, "base_width": self.base_width}

    def _apply(self, fn: Any, recurse: bool = True) -> Teacher:
        self._folded.clear()
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode: batch normalisation always uses the stored statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map ``(B, 3, H, W)`` to stage features ``(B, C_l, H / stride_l, W / stride_l)``, finest first."""
        return self._run(self._stem(image), range(1, self.stages + 1))

    @torch.no_grad()
    def pair(self, image: Tensor, other: Tensor, other_stages: int | None = None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Features of two batches in one pass, which stored batch statistics allow without a change of any value.

        Args:
            image: ``(B, 3, H, W)``.
            other: ``(B, 3, H, W)``, for example the same images with pseudo-anomalies.
            other_stages: stages that are wanted of ``other``; the deeper ones are run for ``image`` alone. Default: all.

        Returns:
            The features of ``image`` and those of ``other``.
        """
        shared = self.stages if other_stages is None else other_stages
        both = self._run(self._stem(torch.cat([image, other])), range(1, shared + 1))
        of_image, of_other = zip(*(feature.split([len(image), len(other)]) for feature in both), strict=True)
        return (*of_image, *self._run(of_image[-1], range(shared + 1, self.stages + 1))), of_other

    def _stem(self, image: Tensor) -> Tensor:
        net = self._computing()
        x = net.get_submodule("bn1")(net.get_submodule("conv1")(image))
        return nn.functional.max_pool2d(torch.relu_(x), 3, stride=2, padding=1)

    def _run(self, x: Tensor, stages: range) -> tuple[Tensor, ...]:
        net, features = self._computing(), []
        for stage in stages:
            x = net.get_submodule(f"layer{stage}")(x)
            features.append(x)
        return tuple(features)

    def _computing(self) -> nn.Module:
        """The module that computes: an exporter sees the published teacher, once, and its runtime folds anew."""
        exporting = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined]
        return self.backbone if exporting else self._fold()

    def _fold(self) -> nn.Module:
        if not self._folded:
            # Frozen batch normalisation is a scale and a shift, which the convolution before it takes over: a copy for computing with, kept out of the
            # state dict (a list hides it), so that checkpoints hold the teacher as it was published. Equal up to rounding.
            self._folded.append(_fold_batch_norm(copy.deepcopy(self.backbone)))
        return self._folded[0]


def _forget_folded(teacher: Teacher, keys: Any) -> None:
    """Weights have changed; a named function, so that a teacher can be pickled for spawned workers."""
    teacher._folded.clear()


def _fold_batch_norm(backbone: nn.Module) -> nn.Module:
    for parent in list(backbone.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.product(children, children):
            paired = norm_name == conv_name.replace("conv", "bn") or (
                isinstance(parent, nn.Sequential) and (conv_name, norm_name) == ("0", "1")
            )
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and paired:
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
