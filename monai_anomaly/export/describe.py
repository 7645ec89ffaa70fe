"""What an exported file says of itself, in the same JSON in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import __version__
from ..files import file_sha256
from ..networks import AnomalyDetector
from ..transforms.imagenet import IMAGENET_MEAN, IMAGENET_STD
from .module import INPUT, OUTPUTS

__all__ = ["METADATA", "describe"]

METADATA = "monai_anomaly"
"""The key under which ONNX and OpenVINO files hold the description."""


def describe(detector: AnomalyDetector, model: str | Path) -> dict[str, Any]:
    """Plain data for whoever runs the file without this package: how to prepare an image, and how to read what comes out. No paths.

    Args:
        detector: the detector.
        model: the ``model.pt`` that it was read from; its SHA-256 ties the two together.

    Returns:
        What JSON can hold: ``input``, ``outputs``, ``resizing`` (of values in [0, 1] to the input's size: :class:`~monai_anomaly.transforms.ResizeSlicesd`'s
        rule), ``normalisation`` (``image = (rgb - mean) / std`` of what was resized) and everything in the model's own description (preprocessing, levels,
        pooling, calibration, provenance).
    """
    side = detector.preprocessing["image_size"]
    map_name, score_name = OUTPUTS
    return {
        "input": {"name": INPUT, "dtype": "float32", "shape": ["batch", 3, side, side]},
        "outputs": {
            map_name: {"dtype": "float32", "shape": ["batch", 1, side, side]},
            score_name: {"dtype": "float32", "shape": ["batch"]},
        },
        "resizing": {"mode": "bilinear", "antialias": True, "align_corners": False, "keep_aspect_ratio": False},
        "normalisation": {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)},
        "colour_range": list(detector.colour_range),
        "model_sha256": file_sha256(model),
        "monai_anomaly": __version__,
        **detector.description,
    }
