"""Small made-up data and networks for tests of the engines and bundles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from monai_anomaly.networks import AnomalyDetector, SkipTS, Teacher
from monai_anomaly.scoring import AnomalyMap, Pooling


def tiny_detector(seed: int = 0, **options) -> AnomalyDetector:
    """ResNet-18, untrained teacher; the student, too, is the same whatever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        system = SkipTS(Teacher("resnet18", weights="random", seed=seed), **options)
    return AnomalyDetector(system, AnomalyMap(), Pooling("max"), {"image_size": 64, "ct_window": "brain"})


def blob(rng: np.random.Generator, size: int = 64, lesion: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A smooth disc with texture; abnormal ones carry a checkered square."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    image = 120 * (x**2 + y**2 < 0.16 + 0.02 * rng.random()) + 10 * rng.random((size, size))
    mask = np.zeros((size, size), bool)
    if lesion:
        top, left = rng.integers(size // 4, size // 2, 2)
        mask[top : top + 12, left : left + 12] = True
        image[mask] = 255 * (((np.arange(size)[:, None] + np.arange(size)) // 2 % 2)[mask])
    return image.astype(np.uint8), mask


def write_image_folder(folder: Path, n_train: int = 12, n_test: int = 4, seed: int = 0) -> Path:
    """The usual anomaly layout: train/good, test/good, test/square, ground_truth/square."""
    rng = np.random.default_rng(seed)
    for group, count in (("train/good", n_train), ("test/good", n_test), ("test/square", n_test)):
        (folder / group).mkdir(parents=True)
        for k in range(count):
            image, mask = blob(rng, lesion=group.endswith("square"))
            Image.fromarray(image).save(folder / group / f"{k:03}.png")
            if mask.any():
                (folder / "ground_truth/square").mkdir(parents=True, exist_ok=True)
                Image.fromarray((255 * mask).astype(np.uint8)).save(folder / "ground_truth/square" / f"{k:03}_mask.png")
    return folder
