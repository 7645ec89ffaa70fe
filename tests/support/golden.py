"""Closed-form inputs of the golden numbers (tests/golden/README.md): the same hash, features and weight fill, written from their description."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parents[1] / "golden"
MASK = np.uint64(2**32 - 1)


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name, allow_pickle=False) as file:
        return dict(file)


def u(n: int, salt: int) -> np.ndarray:
    x = (np.arange(n, dtype=np.uint64) * np.uint64(2654435761) + np.uint64((salt * 2246822519 + 374761393) % 2**32)) & MASK
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & MASK
    x ^= x >> np.uint64(13)
    x = (x * np.uint64(3266489917)) & MASK
    x ^= x >> np.uint64(16)
    return (x.astype(np.float64) + 0.5) / 2**32


@lru_cache(maxsize=128)  # a network has few distinct shapes
def uniform(shape: tuple[int, ...], salt: int, low: float, high: float) -> Tensor:
    return torch.from_numpy((low + (high - low) * u(int(np.prod(shape)), salt)).astype(np.float32).reshape(shape))


def teacher_feature(shape: tuple[int, ...], salt: int) -> Tensor:
    return uniform(shape, salt, -0.5, 1).clamp_min(0)


def student_feature(shape: tuple[int, ...], salt: int) -> Tensor:
    return np.float32(0.6) * teacher_feature(shape, salt) + np.float32(0.4) * teacher_feature(shape, salt + 1000)


SHAPES = {
    "small": (((2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4)), 100),
    "canon": (((2, 4, 64, 64), (2, 6, 32, 32), (2, 8, 16, 16)), 300),
}


def feature_set(name: str) -> tuple[list[Tensor], list[Tensor]]:
    """Teacher and student features of the set, finest first."""
    shapes, base = SHAPES[name]
    salts = [base + 10 * k for k in range(3)]
    return [teacher_feature(s, q) for s, q in zip(shapes, salts)], [student_feature(s, q) for s, q in zip(shapes, salts)]


def noisy_set(name: str) -> list[Tensor]:
    """Teacher features of the disturbed images of the set, finest first."""
    shapes, base = SHAPES[name]
    salts = [base + 10 * k for k in range(3)]
    return [np.float32(0.7) * teacher_feature(s, q) + np.float32(0.3) * teacher_feature(s, q + 2000) for s, q in zip(shapes, salts)]


def synthetic_image(height: int, width: int, salt: int) -> np.ndarray:
    """float64 ``(height, width, 3)``, about in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    grey = 0.5 + 0.25 * np.sin(0.11 * x + 0.3 * salt) + 0.2 * np.cos(0.07 * y)
    return grey[..., None] * (1, 0.95, 0.9) + 0.05 * (u(height * width * 3, salt).reshape(height, width, 3) - 0.5)


def fill(model: nn.Module) -> nn.Module:
    """Set every weight by its shape only."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                w = module.weight
                if isinstance(module, nn.Linear):
                    bound = np.sqrt(3 / w.shape[1])
                elif isinstance(module, nn.ConvTranspose2d):
                    bound = np.sqrt(6 / (w.shape[0] * w.shape[2] * w.shape[3] / module.stride[0] ** 2))
                else:
                    bound = np.sqrt(6 / (w.shape[1] * w.shape[2] * w.shape[3]))
                w.copy_(uniform(tuple(w.shape), 1, -bound, bound))
                if module.bias is not None:
                    module.bias.copy_(uniform(tuple(module.bias.shape), 2, -0.05, 0.05))
            elif isinstance(module, nn.BatchNorm2d):
                n = module.num_features
                module.weight.copy_(uniform((n,), 3, 0.4, 0.8))
                module.bias.copy_(uniform((n,), 4, -0.1, 0.1))
                module.running_mean.copy_(uniform((n,), 5, -0.1, 0.1))
                module.running_var.copy_(uniform((n,), 6, 0.8, 1.2))
    return model


def assert_summary(tensor: Tensor, golden: dict[str, np.ndarray], name: str, tolerance: float = 1e-4) -> None:
    """Samples within a tolerance in units of the standard deviation; 1e-4 is that of the network entries."""
    flat = tensor.detach().contiguous().flatten().numpy()
    assert tuple(tensor.shape) == tuple(golden[f"{name}/shape"])
    sample = golden[f"{name}/sample"]
    taken = flat[:: int(golden[f"{name}/stride"])][: len(sample)]
    np.testing.assert_allclose(taken, sample, rtol=0, atol=tolerance * golden[f"{name}/stats"][1])
    x = flat.astype(np.float64)
    stats = [x.mean(), x.std(), np.abs(x).mean(), x.min(), x.max()]
    np.testing.assert_allclose(stats, golden[f"{name}/stats"], rtol=0, atol=1e-3 * golden[f"{name}/stats"][1])
