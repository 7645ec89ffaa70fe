"""AUPRO as the released codes compute it, to compare with their figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import auc

from ..errors import DataError, OptionError
from .aupro import checked, component_weights

__all__ = ["compute_aupro_reference"]


def compute_aupro_reference(maps: ArrayLike, masks: ArrayLike, fpr_limit: float = 0.3, n_thresholds: int = 200) -> float:
    """AUPRO as the released drivers report it: one number per abnormal image, then the mean. Use it only to compare with their figures.

    In each abnormal image by itself: ``n_thresholds`` equal steps from its lowest to its highest score, prediction ``score > t``, rows with
    FPR below the limit, their FPR divided by its own maximum, area by trapezoids. It ignores normal images, normalises each image differently and has
    no point at the limit, so it can fall on either side of :func:`compute_aupro`.

    Args:
        maps: anomaly maps ``(N, H, W)``, all finite.
        masks: ground truth ``(N, H, W)``, non-zero is abnormal.
        fpr_limit: rows at or above it are dropped.
        n_thresholds: steps between the lowest and the highest score.

    Returns:
        Mean over the abnormal images.

    Raises:
        OptionError: limit or number of thresholds outside their values.
        DataError: as :func:`compute_aupro`, or an abnormal image without a curve (a constant map, no normal pixel).

    Source:
        ``compute_pro`` of the released RD4AD and DRD.

    Example:
        >>> masks = np.zeros((1, 4, 4), dtype=np.uint8)
        >>> masks[0, :2, :2] = 1
        >>> round(compute_aupro_reference(np.arange(16.0).reshape(1, 4, 4)[:, ::-1, ::-1], masks), 3)
        0.667
    """
    values, inside = checked(maps, masks, fpr_limit)
    if n_thresholds < 2:
        raise OptionError(f"n_thresholds is {n_thresholds}; expected at least 2.")
    abnormal = np.flatnonzero(inside.any(axis=(1, 2)))
    return float(np.mean([_released_pro(values[i : i + 1], inside[i : i + 1], fpr_limit, n_thresholds) for i in abnormal]))


def _released_pro(maps: NDArray[Any], masks: NDArray[np.bool_], fpr_limit: float, n_thresholds: int) -> float:
    """The released curve and its area over the images given (the drivers give one)."""
    normal = np.sort(maps[~masks])
    lowest, highest = maps.min(), maps.max()
    if not normal.size or not highest > lowest:
        raise DataError(
            f"An abnormal image has {normal.size} normal pixels and scores from {lowest} to {highest}; the released AUPRO needs normal pixels and two "
            "different scores: use compute_aupro over the whole test set."
        )
    thresholds = np.arange(lowest, highest, (highest - lowest) / n_thresholds)
    weights, n_components = component_weights(masks)
    order = np.argsort(maps[masks])
    abnormal, mass = maps[masks][order], np.append(0.0, np.cumsum(weights[order]))
    pro = (mass[-1] - mass[np.searchsorted(abnormal, thresholds, side="right")]) / n_components
    fpr = (normal.size - np.searchsorted(normal, thresholds, side="right")) / normal.size
    pro, fpr = pro[fpr < fpr_limit], fpr[fpr < fpr_limit]
    if fpr.size < 2 or fpr.max() == 0:
        raise DataError(
            f"An abnormal image has {fpr.size} of {n_thresholds} thresholds with a false-positive rate below {fpr_limit}, the largest {fpr.max(initial=0.0)};"
            " the released AUPRO needs two and a rate above 0: use compute_aupro over the whole test set."
        )
    return float(auc(fpr / fpr.max(), pro))
