"""Smoothing of a series' maps from slice to slice, in millimetres."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, OptionError

__all__ = ["smooth_through_slices"]

_COLUMNS = 8192
"""Pixels smoothed at once: the maps of 1,000 slices, changed in place, then need no second copy but 32 MiB."""


def smooth_through_slices(maps: Tensor, spacing_mm: float, smoothing_mm: float) -> Tensor:
    r"""Smooth the stacked maps of one series along the slice axis with a Gaussian, **in place**.

    Slices that were not scored (NaN) and those beyond the ends of the series take no part: what remains of the Gaussian is scaled to 1 (normalised
    convolution), :math:`\tilde m_i = \sum_j g_{ij} m_j / \sum_j g_{ij}` over the scored slices :math:`j`. So no value becomes higher than the highest
    of its column was. Unscored slices stay NaN.

    Args:
        maps: ``(S, h, w)`` float, each slice either all NaN or without NaN.
        spacing_mm: distance between slices along the slice axis.
        smoothing_mm: standard deviation in mm; 0 changes nothing.

    Returns:
        ``maps`` itself.

    Raises:
        DataError: other dimensions, or a spacing that is none.
        OptionError: a negative or infinite ``smoothing_mm``.

    Example:
        >>> smooth_through_slices(torch.tensor([0.0, 1.0, torch.nan]).reshape(3, 1, 1), 2.0, 2.0).flatten().tolist()
        [0.3775406777858734, 0.622459352016449, nan]
    """
    if not 0 <= smoothing_mm < math.inf:
        raise OptionError(f"smoothing_mm is {smoothing_mm}; expected millimetres from 0 (no smoothing) upwards.")
    if maps.ndim != 3 or not 0 < spacing_mm < math.inf:
        raise DataError(f"Maps of shape {tuple(maps.shape)} have slices {spacing_mm} mm apart; expected (S, h, w) and a positive distance.")
    scored = ~maps[:, 0, 0].isnan() if maps.numel() else torch.zeros(len(maps), dtype=torch.bool)
    if smoothing_mm == 0 or not scored.any():
        return maps
    position = np.flatnonzero(scored.numpy()) * spacing_mm
    weights = np.exp(-0.5 * (np.subtract.outer(position, position) / smoothing_mm) ** 2)
    mixing = torch.from_numpy(weights / weights.sum(axis=1, keepdims=True)).to(maps.dtype)
    columns = maps.view(len(maps), -1)
    for start in range(0, columns.shape[1], _COLUMNS):
        part = columns[:, start : start + _COLUMNS]
        known = part[scored]
        # The minimum takes rounding away: thresholds rely on smoothing never to raise the highest value.
        part[scored] = torch.minimum(mixing @ known, known.amax(dim=0))
    return maps
