"""From feature pairs to one smoothed anomaly map (Skip-TS, eq. 7; SPEC 0.6 and 7.5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..losses import level_map
from ..networks import Features

__all__ = ["AnomalyMap", "upsample_blur_matrix"]


@lru_cache(maxsize=64)
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
    identity = torch.eye(size_in, dtype=torch.float64)[None]
    matrix = F.interpolate(identity, size=size_out, mode="linear", align_corners=True)[0].T.numpy()
    if sigma_px > 0:
        matrix = gaussian_filter1d(matrix, sigma_px, axis=0, mode="reflect", truncate=4.0)
    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32))


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

    def forward(self, features: Features, size: Sequence[int]) -> Tensor:
        """Return the map ``(B, 1, H, W)`` of ``size`` (H, W), float32."""
        height, width = int(size[0]), int(size[1])
        total: Tensor | None = None
        for level in self.maps:
            distance = level_map(features.teacher[level - 1].float(), features.student[level - 1].float())
            rows = upsample_blur_matrix(distance.shape[-2], height, self.sigma_px).to(distance.device)
            columns = upsample_blur_matrix(distance.shape[-1], width, self.sigma_px).to(distance.device)
            fused = rows @ distance @ columns.T
            total = fused if total is None else total + fused
        assert total is not None
        return total.unsqueeze(1)
