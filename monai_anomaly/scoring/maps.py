"""From feature pairs to one smoothed anomaly map, and the refinement of its score."""

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
    """Skip-TS, eq. (6): the matrix that up-samples a line bilinearly (``align_corners=True``) and then blurs it as ``scipy.ndimage.gaussian_filter`` does.

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
    r"""Fused and smoothed map; Skip-TS, eq. (7): :math:`M_{ano} = \sum_l up(M_l)`, then a Gaussian.

    Args:
        maps: the levels that take part, finest is 1. The papers use 1, 2 and 3; the ablation of Skip-TS the pairs.
        sigma_px: standard deviation of the Gaussian in pixels of the map; 4 in the released code, 0 for the letter of eq. (8).
        fusion: ``"sum"`` (Skip-TS, RD4AD), ``"mean"`` (ESC-DRKD, DRD), or ``"weighted"`` (SCRD4AD): :math:`\sum_l w_l \, up(M_l)` with the image's own scale
            weights. The weights of SCRD4AD's released code cancel, so its map is the sum.
        refine: whether the image's score is multiplied by DRD's refinement, see :meth:`with_refinement`. The map stays as it is.

    Raises:
        OptionError: no level, a level twice, a negative sigma, an unknown fusion, or a ``refine`` that is neither true nor false.

    Example:
        >>> levels = tuple(torch.rand(2, 4, n, n) for n in (16, 8, 4))
        >>> tuple(AnomalyMap()(Features(teacher=levels, student=levels), (64, 64)).shape)
        (2, 1, 64, 64)
    """

    def __init__(self, maps: Sequence[int] = (1, 2, 3), sigma_px: float = 4.0, fusion: str = "sum", refine: bool = False):
        super().__init__()
        if not isinstance(maps, Sequence) or not maps or any(type(level) is not int for level in maps):
            raise OptionError(f"maps is {maps!r}; expected a list of levels, such as [1, 2, 3].")
        if sorted(maps) != sorted({*maps} & {1, 2, 3}):
            raise OptionError(f"maps is {list(maps)}; expected some of the levels 1, 2, 3, each once.")
        self.maps = tuple(maps)
        self.sigma_px = float(sigma_px)
        self.fusion = fusion
        self.refine = refine
        if not 0 <= self.sigma_px < 1000:
            raise OptionError(f"sigma_px is {sigma_px}; expected pixels from 0 (no smoothing) upwards.")
        if fusion not in ("sum", "mean", "weighted"):
            raise OptionError(f"fusion is {fusion!r}; expected 'sum', 'mean' or 'weighted'.")
        if not isinstance(refine, bool):
            raise OptionError(f"refine is {refine!r}; expected true or false.")

    @property
    def config(self) -> dict[str, Any]:
        """Plain-data description, from which a checkpoint rebuilds the rule."""
        return {"maps": list(self.maps), "sigma_px": self.sigma_px, "fusion": self.fusion, "refine": self.refine}

    @property
    def full_scale(self) -> float:
        """The upper end of the map's range for features that are not negative."""
        return float(len(self.maps)) if self.fusion == "sum" else 1.0

    def prepare(self, image_size: int, strides: Sequence[int]) -> AnomalyMap:
        """Keep the matrices for square images of one size: they then move with the module and are copied to no device during a call.

        Args:
            image_size: side of the image in pixels.
            strides: image pixels per feature pixel of the levels, finest first.

        Returns:
            This module. Its state dict stays as it is.
        """
        for level in self.maps:
            size = image_size // strides[level - 1]
            for sigma_px in {self.sigma_px, 0.0} if self.refine else {self.sigma_px}:
                self.register_buffer(_name(size, image_size, sigma_px), upsample_blur_matrix(size, image_size, sigma_px), persistent=False)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> AnomalyMap:
        # half() and double() are about weights: the matrices follow to another device, but maps stay float32.
        return super()._apply(lambda matrix: matrix.to(fn(matrix).device), recurse)

    def forward(self, features: Features, size: Sequence[int]) -> Tensor:
        """Return the map ``(B, 1, H, W)`` of ``size`` (H, W), float32.

        Raises:
            OptionError: a weighted fusion of features without scale weights.
        """
        return self._fused(features, self._distances(features), size)

    def with_refinement(self, features: Features, size: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        r"""The map, and the factor ``(B,)`` that the image's score is multiplied with, or ``None`` without ``refine``.

        DRD's factor is :math:`1 + v_k`, for each image on its own: :math:`v_l` is the highest value of :math:`M_l`, and :math:`k` the level (of ``maps``, the
        first one of equals) whose up-sampled, unsmoothed map has the smallest variance.
        """
        distances = self._distances(features)
        fused = self._fused(features, distances, size)
        if not self.refine:
            return fused, None
        highest = torch.stack([distance.amax(dim=(1, 2)) for distance in distances], dim=1)
        variance = torch.stack([self._upsampled(distance, size, 0.0).flatten(1).var(dim=1) for distance in distances], dim=1)
        steadiest = variance.argmin(dim=1, keepdim=True)
        return fused, 1 + highest.gather(1, steadiest).squeeze(1)

    def _distances(self, features: Features) -> list[Tensor]:
        """M_l ``(B, H_l, W_l)`` of the chosen levels."""
        return [level_map(features.teacher[level - 1].float(), features.student[level - 1].float()) for level in self.maps]

    def _fused(self, features: Features, distances: list[Tensor], size: Sequence[int]) -> Tensor:
        if self.fusion == "weighted":
            (weights,) = features.required("scale_weights", by="A map with fusion 'weighted'")
            # Up-sampling and blur are linear: weighing the small maps is weighing the large ones.
            distances = [weights[:, level - 1, None, None].float() * distance for level, distance in zip(self.maps, distances, strict=True)]
        total = self._upsampled(distances[0], size, self.sigma_px)
        for distance in distances[1:]:
            total = total + self._upsampled(distance, size, self.sigma_px)
        return (total / len(self.maps) if self.fusion == "mean" else total).unsqueeze(1)

    def _upsampled(self, distance: Tensor, size: Sequence[int], sigma_px: float) -> Tensor:
        rows = self._matrix(int(distance.shape[-2]), int(size[0]), sigma_px, distance.device)
        columns = self._matrix(int(distance.shape[-1]), int(size[1]), sigma_px, distance.device)
        return rows @ distance @ columns.T

    def _matrix(self, size_in: int, size_out: int, sigma_px: float, device: torch.device) -> Tensor:
        kept = self._buffers.get(_name(size_in, size_out, sigma_px))
        return upsample_blur_matrix(size_in, size_out, sigma_px).to(device) if kept is None else kept


def _name(size_in: int, size_out: int, sigma_px: float) -> str:
    return f"from_{size_in}_to_{size_out}{'_blurred' if sigma_px else ''}"
