"""From feature pairs to one smoothed anomaly map (Skip-TS, eq. 7; SPEC 0.6 and 7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from ..errors import OptionError
from ..losses import level_map
from ..networks import Features

__all__ = ["AnomalyMap", "upsample_blur_matrix"]


def upsample_blur_matrix(size_in: int, size_out: int, sigma_px: float) -> Tensor:
    """The matrix that up-samples a line bilinearly (``align_corners=True``) and then blurs it as ``scipy.ndimage.gaussian_filter`` does.

    Both steps are linear and separable, so a map ``M`` becomes ``A M B^T`` in one go, boundary rule included.

    Args:
        size_in: pixels of the line.
        size_out: pixels after up-sampling.
        sigma_px: standard deviation of the Gaussian in output pixels; 0: no blur.

    Returns:
        float32 ``(size_out, size_in)``.

    Example:
        >>> upsample_blur_matrix(2, 3, 0.0).tolist()
        [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    return torch.from_numpy(_matrix(size_in, size_out, sigma_px))


# NumPy throughout: torch's exporters follow every torch operation, and cannot follow one whose result goes through SciPy.
@lru_cache(maxsize=64)
def _matrix(size_in: int, size_out: int, sigma_px: float) -> NDArray[np.float32]:
    rows = np.arange(size_out)
    place = rows * ((size_in - 1) / max(size_out - 1, 1))
    left = np.minimum(place.astype(np.intp), size_in - 1)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (rows, left), 1 - (place - left))
    np.add.at(matrix, (rows, np.minimum(left + 1, size_in - 1)), place - left)
    if sigma_px > 0:
        matrix = gaussian_filter1d(matrix, sigma_px, axis=0, mode="reflect", truncate=4.0)
    return np.ascontiguousarray(matrix, dtype=np.float32)


class AnomalyMap(nn.Module):
    r"""Fused and smoothed map, eq. (7): :math:`M_{ano} = \sum_l up(M_l)`, then a Gaussian.

    Args:
        maps: the levels that take part, finest is 1. The paper uses 1, 2 and 3; its ablation the pairs.
        sigma_px: standard deviation of the Gaussian in pixels of the map; 4 in the released code, 0 for the letter of eq. (8).

    Raises:
        OptionError: no level, a level twice, or a negative sigma.

    Example:
        >>> levels = tuple(torch.rand(2, 4, n, n) for n in (16, 8, 4))
        >>> tuple(AnomalyMap()(Features(teacher=levels, student=levels), (64, 64)).shape)
        (2, 1, 64, 64)
    """

    def __init__(self, maps: Sequence[int] = (1, 2, 3), sigma_px: float = 4.0):
        super().__init__()
        self.maps = tuple(maps)
        self.sigma_px = float(sigma_px)
        if not self.maps or len(set(self.maps)) != len(self.maps) or not set(self.maps) <= {1, 2, 3}:
            raise OptionError(f"maps is {list(maps)}; expected some of the levels 1, 2, 3, each once.")
        if not 0 <= self.sigma_px < 1000:
            raise OptionError(f"sigma_px is {sigma_px}; expected pixels from 0 (no smoothing) upwards.")

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the rule."""
        return {"maps": list(self.maps), "sigma_px": self.sigma_px}

    def prepare(self, image_size: int, strides: Sequence[int]) -> AnomalyMap:
        """Keep the matrices for square images of one size: they then move with the module and are copied to no device during a call.

        Args:
            image_size: side of the image in pixels.
            strides: image pixels per feature pixel of the levels, finest first.

        Returns:
            This module. Its state dict stays as it is.
        """
        for stride in strides:
            matrix = upsample_blur_matrix(image_size // stride, image_size, self.sigma_px)
            self.register_buffer(_name(image_size // stride, image_size), matrix, persistent=False)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> AnomalyMap:
        # half() and double() are about weights: the matrices follow to another device, but maps stay float32.
        return super()._apply(lambda matrix: matrix.to(fn(matrix).device), recurse)

    @property
    def full_scale(self) -> float:
        """The upper end of the map's range for features that are not negative."""
        return float(len(self.maps))

    def with_refinement(self, features: Features, size: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """The map, and the factor ``(B,)`` that the image score is multiplied with, or ``None``."""
        return self(features, size), None

    def forward(self, features: Features, size: Sequence[int]) -> Tensor:
        """Return the map ``(B, 1, H, W)`` of ``size`` (H, W), float32."""
        height, width = int(size[0]), int(size[1])
        total: Tensor | None = None
        for level in self.maps:
            distance = level_map(features.teacher[level - 1].float(), features.student[level - 1].float())
            rows = self._prepared(int(distance.shape[-2]), height, distance.device)
            columns = self._prepared(int(distance.shape[-1]), width, distance.device)
            fused = rows @ distance @ columns.T
            total = fused if total is None else total + fused
        assert total is not None
        return total.unsqueeze(1)

    def _prepared(self, size_in: int, size_out: int, device: torch.device) -> Tensor:
        kept = self._buffers.get(_name(size_in, size_out))
        return upsample_blur_matrix(size_in, size_out, self.sigma_px).to(device) if kept is None else kept


def _name(size_in: int, size_out: int) -> str:
    return f"from_{size_in}_to_{size_out}"
