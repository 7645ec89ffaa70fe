"""The one ``network_def`` of every bundle: a system with the rule that turns its features into a map and a score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import OptionError
from ..transforms.pseudo import PseudoAbnormal
from .description import FORMAT, Preprocessing, json_to_tensor, read_description
from .features import Features

__all__ = ["AnomalyDetector", "Prediction"]

_LARGEST_IMAGE = 8192


class Prediction(NamedTuple):
    """What a detector says of a batch of images."""

    anomaly_map: Tensor
    """``(B, 1, H, W)``"""
    score: Tensor
    """``(B,)``, one number per image"""


class AnomalyDetector(nn.Module):
    """Feature record in training mode, anomaly map in evaluation mode, as torchvision's detectors have it.

    Its state dict holds, beside the weights, a plain-data description (JSON bytes under ``_extra_state``): how to rebuild the network and its
    preprocessing, the teacher's hash, the calibration, and what it was trained on. So one ``model.pt`` is complete.

    Args:
        system: a :class:`~monai_anomaly.networks.System`.
        anomaly_map: from features to the map ``(B, 1, H, W)``; see :class:`monai_anomaly.scoring.AnomalyMap`.
        pooling: rule from the pixels of a map to the image's score; see :class:`monai_anomaly.scoring.Pooling`.
        preprocessing: plain data that inference needs to prepare images as training did, such as ``{"image_size": 256, "ct_window": "brain"}``.

    Raises:
        OptionError: an ``image_size`` that is no multiple of 32, or above 8192; or a weighted fusion for a system without weights.

    Attributes:
        calibration: plain data of the held-out normal scores and the colour scale, ``None`` before calibration.
        provenance: plain data on the training run (data fingerprint, seed, epochs, versions).

    Example:
        >>> from monai_anomaly.networks import SkipTS, Teacher
        >>> from monai_anomaly.scoring import AnomalyMap, Pooling
        >>> detector = AnomalyDetector(SkipTS(Teacher("resnet18", weights="random")), AnomalyMap(), Pooling("max")).eval()
        >>> prediction = detector.predict(torch.zeros(2, 3, 64, 64))
        >>> tuple(prediction.anomaly_map.shape), tuple(prediction.score.shape)
        ((2, 1, 64, 64), (2,))
    """

    def __init__(
        self,
        system: Any,
        anomaly_map: Any,
        pooling: Any,
        preprocessing: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        size = dict(preprocessing or {}).get("image_size", 32)
        if isinstance(size, bool) or not isinstance(size, int) or not 32 <= size <= _LARGEST_IMAGE or size % 32:
            raise OptionError(
                f"image_size is {size!r}; expected a multiple of 32 pixels, so that every level halves evenly, and {_LARGEST_IMAGE} at most."
            )
        self.system: Any = _in_fast_layout(system)
        self.pooling: Any = pooling
        self.preprocessing = Preprocessing(preprocessing or {})
        self.set_map(anomaly_map)
        self.calibration: dict[str, Any] | None = None
        self.provenance: dict[str, Any] = {}

    def set_map(self, anomaly_map: Any) -> None:
        """Take this rule from features to the map, and prepare it for the detector's image size.

        Raises:
            OptionError: a weighted fusion for a system that weighs nothing, which would come to light at the first map only, epochs later.
        """
        if anomaly_map.fusion == "weighted" and not self.system.weighs_levels:
            raise OptionError(
                f"fusion is 'weighted', and {type(self.system).__name__} gives no weights of the levels; expected 'sum' or 'mean' for this system."
            )
        self.anomaly_map: Any = anomaly_map
        if "image_size" in self.preprocessing:
            self.anomaly_map.prepare(self.preprocessing["image_size"], self.system.teacher.strides)

    def forward(self, image: Tensor, pseudo: PseudoAbnormal | None = None) -> Features | Tensor:
        """Features in training mode, the anomaly map in evaluation mode.

        Args:
            image: ``(B, 3, H, W)``, teacher-normalised.
            pseudo: the same images with pseudo-anomalies, for the training of systems that need them.

        Returns:
            :class:`Features` (training) or the anomaly map ``(B, 1, H, W)`` (evaluation).
        """
        return self._features(image, pseudo) if self.training else self.predict(image).anomaly_map

    def predict(self, image: Tensor) -> Prediction:
        """Map ``(B, 3, H, W)``, teacher-normalised, to anomaly map and score; each image is judged on its own."""
        anomaly_map, refinement = self.anomaly_map.with_refinement(self._features(image), image.shape[-2:])
        score: Tensor = self.pooling(anomaly_map.flatten(1))
        return Prediction(anomaly_map, score if refinement is None else refinement * score)

    def _features(self, image: Tensor, pseudo: PseudoAbnormal | None = None) -> Features:
        image = image.contiguous(memory_format=torch.channels_last)
        if pseudo is None:
            features: Features = self.system(image)
        else:
            features = self.system(image, pseudo._replace(image=pseudo.image.contiguous(memory_format=torch.channels_last)))
        return features

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters an optimiser may touch: everything but the frozen teacher."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def colour_range(self) -> tuple[float, float]:
        """The one fixed colour scale of this model's heat maps, in map units; before calibration the range that the map can have."""
        if self.calibration is None or "colour_range" not in self.calibration:
            return 0.0, self.anomaly_map.full_scale
        low, high = self.calibration["colour_range"]
        return float(low), float(high)

    @property
    def description(self) -> dict[str, Any]:
        """Plain data from which :func:`monai_anomaly.training.load_detector` rebuilds this detector."""
        return {
            "format": FORMAT,
            "system": type(self.system).__name__,
            "options": self.system.config,
            "teacher": self.system.teacher.config,
            "anomaly_map": self.anomaly_map.config,
            "pooling": self.pooling.rule,
            "preprocessing": self.preprocessing,
            "calibration": self.calibration,
            "provenance": self.provenance,
        }

    def get_extra_state(self) -> Tensor:
        """The description as JSON bytes: a tensor, because MONAI's checkpoint tools ask every entry of a state dict for its shape."""
        return json_to_tensor(self.description)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over from a checkpoint what is not a weight: calibration, provenance and the teacher's origin."""
        description = read_description(state)
        self.calibration = description["calibration"]
        self.provenance = description["provenance"]
        self.system.teacher.source = description["teacher"]["source"]
        self.system.teacher.sha256 = description["teacher"]["sha256"]


def _in_fast_layout(system: nn.Module) -> nn.Module:
    """Channels last, but for the weights of transposed convolutions, which the CPU's kernels would put back at each call."""
    system.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in system.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return system
