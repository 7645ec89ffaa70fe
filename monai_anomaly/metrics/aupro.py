"""Area under the per-region overlap curve (AUPRO): how much of each lesion is found before too many normal pixels light up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.measure import label
from sklearn.metrics import auc

from ..errors import DataError, OptionError

__all__ = ["compute_aupro"]


def compute_aupro(maps: ArrayLike, masks: ArrayLike, fpr_limit: float = 0.3) -> float:
    r"""Exact AUPRO of a whole test set, over all distinct thresholds.

    For a threshold :math:`t`, PRO is the mean over the connected components (8 neighbours) of all masks of the fraction of their pixels with
    score >= t; FPR is the fraction of the normal pixels of all images with score >= t. PRO is integrated over FPR from 0 to the limit by trapezoids,
    from (0, 0) to a linearly interpolated point at the limit, and divided by the limit: 1 is perfect, ``fpr_limit / 2`` is chance.

    Only pixels that can matter below the limit are sorted. Peak memory beside the inputs, measured with float32 maps and the default limit: 25 bytes a
    pixel (100 slices of 256 x 256: 160 MB, half a second).

    Args:
        maps: anomaly maps ``(N, H, W)``, any unit, higher is more anomalous; all finite.
        masks: ground truth ``(N, H, W)``, non-zero is abnormal; normal images have empty masks.
        fpr_limit: end of the integration, in (0, 1].

    Returns:
        AUPRO in [0, 1].

    Raises:
        OptionError: a limit outside its values.
        DataError: shapes differ, a map is not finite, or there is no abnormal or no normal pixel.

    Source:
        Bergmann et al., Uninformed Students, CVPR 2020.

    Example:
        >>> masks = np.zeros((1, 4, 4), dtype=np.uint8)
        >>> masks[0, :2, :2] = 1
        >>> compute_aupro(masks.astype(float), masks)
        1.0
    """
    values, inside = checked(maps, masks, fpr_limit)
    weights, n_components = component_weights(inside)
    normal = values[~inside]

    # The curve passes the limit at the latest at the m-th highest normal score; nothing below it has any area.
    m = min(normal.size, int(fpr_limit * normal.size) + 1)
    lowest = np.partition(normal, normal.size - m)[normal.size - m]
    kept = values >= lowest
    scores, abnormal = values[kept], inside[kept]
    found = np.zeros(scores.size)
    found[abnormal] = weights[kept[inside]]
    order = np.argsort(scores)[::-1]
    scores, abnormal, found = scores[order], abnormal[order], found[order]
    last_of_ties = np.append(scores[1:] != scores[:-1], True)
    fpr = np.append(0.0, np.cumsum(~abnormal)[last_of_ties] / normal.size)
    pro = np.append(0.0, np.cumsum(found)[last_of_ties] / n_components)

    end = int(np.searchsorted(fpr, fpr_limit, side="right"))
    if end < fpr.size:
        share = (fpr_limit - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
        at_limit = pro[end - 1] + share * (pro[end] - pro[end - 1])
        fpr, pro = np.append(fpr[:end], fpr_limit), np.append(pro[:end], at_limit)
    return float(min(auc(fpr, pro) / fpr_limit, 1.0))


def component_weights(masks: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """1 / (size of its component, joined by 8 neighbours) for each abnormal pixel in C order, and the number of components."""
    weights, total = [], 0
    for mask in masks[masks.any(axis=(1, 2))]:
        components, n = label(mask, connectivity=2, return_num=True)
        inside = components[mask]
        weights.append(1.0 / np.bincount(inside)[inside])
        total += int(n)
    return np.concatenate(weights), total


def checked(maps: ArrayLike, masks: ArrayLike, fpr_limit: float) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Maps, and where they are abnormal, as arrays.

    Raises:
        OptionError: a limit outside its values.
        DataError: shapes differ, a map is not finite, or there is no abnormal or no normal pixel.
    """
    values, inside = np.asarray(maps), np.asarray(masks) != 0
    if not 0 < fpr_limit <= 1:
        raise OptionError(f"fpr_limit is {fpr_limit}; expected a false-positive rate above 0 and up to 1, usually 0.3.")
    if values.ndim != 3 or values.shape != inside.shape:
        raise DataError(f"The maps have shape {values.shape} and the masks {inside.shape}; expected the same (N, H, W) for both.")
    if not np.isfinite(values).all():
        raise DataError(
            "The anomaly maps hold values that are not finite; expected numbers: leave out the images that could not be scored."
        )
    if not inside.any() or inside.all():
        raise DataError(
            f"The masks mark {int(inside.sum())} of {inside.size} pixels as abnormal; AUPRO needs abnormal and normal pixels: evaluate images with both."
        )
    return values, inside
