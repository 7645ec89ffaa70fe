"""What is exported: image in, map and score out."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ..networks import AnomalyDetector

__all__ = ["INPUT", "OUTPUTS", "ExportedDetector"]

INPUT = "image"
OUTPUTS = ("map", "score")


class ExportedDetector(nn.Module):
    """A frozen copy of a detector that gives the map and its score in one call, any number of images at a time.

    Args:
        detector: the detector; it stays as it is.

    Example:
        >>> import torch
        >>> from monai_anomaly.networks import SkipTS, Teacher
        >>> from monai_anomaly.scoring import AnomalyMap, Pooling
        >>> detector = AnomalyDetector(SkipTS(Teacher("resnet18", weights="random")), AnomalyMap(), Pooling("max"), {"image_size": 64})
        >>> [tuple(output.shape) for output in ExportedDetector(detector)(torch.zeros(2, 3, 64, 64))]
        [(2, 1, 64, 64), (2,)]
    """

    def __init__(self, detector: AnomalyDetector):
        super().__init__()
        self.detector = copy.deepcopy(detector).cpu().requires_grad_(False)
        self.eval()

    @property
    def image_size(self) -> int:
        """Side of the square image in pixels; fixed, for the map's smoothing is made for it."""
        return int(self.detector.preprocessing["image_size"])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, 3, H, W)``, teacher-normalised, to the anomaly map ``(B, 1, H, W)`` and the score ``(B,)``."""
        anomaly_map, score = self.detector.predict(image)
        return anomaly_map, score
