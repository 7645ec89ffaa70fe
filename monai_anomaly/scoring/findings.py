"""Where a map is above a threshold: connected regions, how large, how high, and where in the patient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from ..errors import DataError, OptionError

__all__ = ["Finding", "Findings", "find_regions"]

Array = NDArray[Any]


class Finding(NamedTuple):
    """One connected region above the threshold. Rows, columns and slices count from 0, as in the slices' heat maps and tables.

    Example:
        >>> Finding._fields[:4]
        ('peak', 'peak_row', 'peak_column', 'peak_slice')
    """

    peak: float
    """Highest map value."""
    peak_row: int
    peak_column: int
    peak_slice: int
    first_slice: int
    last_slice: int
    area_px: int | None = None
    """Pixels; only without a place in the patient, as all that follows is only there with one."""
    voxels: int | None = None
    volume_ml: float | None = None
    height_mm: float | None = None
    """Extent over the rows of the slices, which may lie obliquely in the patient: edges of a box along the voxel grid."""
    width_mm: float | None = None
    """Over the columns."""
    depth_mm: float | None = None
    """Over the slices."""
    peak_lps_x_mm: float | None = None
    """Centre of the peak's voxel in DICOM's patient coordinates: x grows to the patient's left, y to the back, z to the head."""
    peak_lps_y_mm: float | None = None
    peak_lps_z_mm: float | None = None
    centroid_lps_x_mm: float | None = None
    """Mean position of the voxels, each counted alike."""
    centroid_lps_y_mm: float | None = None
    centroid_lps_z_mm: float | None = None


class Findings(NamedTuple):
    """The regions of one series.

    Example:
        >>> Findings((), 0, 0).n_found
        0
    """

    listed: tuple[Finding, ...]
    """By peak, highest first."""
    n_found: int
    """Regions of at least the smallest volume; more than are listed where there are very many."""
    n_small: int
    """Regions left out because they are smaller."""


class _Parts(NamedTuple):
    """Parts of regions, each a voxel or more: one entry, or one row of (row, column, slice), per part."""

    voxels: Array
    position_sum: Array
    low: Array
    high: Array
    peak: Array
    place: Array
    """Of the peak."""


def find_regions(
    anomaly_map: ArrayLike, threshold: float, affine: ArrayLike | None = None, min_volume_ml: float = 0.0, most: int = 1000
) -> Findings:
    """Find the connected regions in which a map is above a threshold.

    In the patient, voxels that share a face, an edge or a corner belong together. Without a place in the patient (a picture, frames that are time) every
    slice stands alone, and pixels that share an edge or a corner belong together.

    Args:
        anomaly_map: ``(rows, columns, slices)``; NaN (not scored) is not above anything.
        threshold: regions are strictly above it, as with :meth:`Calibration.threshold`.
        affine: ``(4, 4)`` from (row, column, slice) to RAS+ millimetres; ``None`` without a place in the patient.
        min_volume_ml: smaller regions are left out, and counted; does not concern pictures.
        most: so many are listed, those of the highest peaks; the rest is counted.

    Returns:
        The regions, highest peak first; equal peaks in the order of their slices, rows and columns.

    Raises:
        DataError: not three dimensions.
        OptionError: a threshold that is not finite, a negative volume, or nothing to be listed.

    Example:
        >>> anomaly_map = np.zeros((4, 5, 3), dtype=np.float32)
        >>> anomaly_map[1, 2, :2] = 0.5, 0.75
        >>> (finding,), n_found, n_small = find_regions(anomaly_map, 0.25, np.diag([10.0, 10.0, 5.0, 1.0]))
        >>> finding.volume_ml, finding.peak, finding.peak_slice, finding.depth_mm, (finding.peak_lps_x_mm, finding.peak_lps_y_mm)
        (1.0, 0.75, 1, 10.0, (-10.0, -20.0))
    """
    values = np.asarray(anomaly_map)
    if values.ndim != 3:
        raise DataError(f"The anomaly map has shape {values.shape}; expected (rows, columns, slices).")
    if not np.isfinite(threshold) or not 0 <= min_volume_ml < np.inf or most < 1:
        raise OptionError(
            f"The threshold is {threshold}, min_volume_ml {min_volume_ml} and most {most}; expected a finite number, 0 or more, and at least 1."
        )
    to_world = None if affine is None else np.asarray(affine, dtype=np.float64)
    regions = _regions(values, threshold, through_slices=to_world is not None)
    big = regions.voxels * (np.inf if to_world is None else _voxel_ml(to_world)) >= min_volume_ml
    order = np.lexsort((*regions.place.T[[1, 0, 2]], -regions.peak))
    listed = (_finding(regions, n, to_world) for n in order[big[order]][:most])
    return Findings(tuple(listed), int(big.sum()), int((~big).sum()))


def _finding(regions: _Parts, n: int, affine: Array | None) -> Finding:
    row, column, slice_index = (int(index) for index in regions.place[n])
    voxels = int(regions.voxels[n])
    finding = Finding(float(regions.peak[n]), row, column, slice_index, int(regions.low[n, 2]), int(regions.high[n, 2]))
    if affine is None:
        return finding._replace(area_px=voxels)
    height, width, depth = ((regions.high[n] - regions.low[n] + 1) * np.linalg.norm(affine[:3, :3], axis=0)).tolist()
    peak, centroid = _lps(affine, regions.place[n]), _lps(affine, regions.position_sum[n] / voxels)
    return finding._replace(
        voxels=voxels, volume_ml=voxels * _voxel_ml(affine), height_mm=height, width_mm=width, depth_mm=depth,
        peak_lps_x_mm=peak[0], peak_lps_y_mm=peak[1], peak_lps_z_mm=peak[2],
        centroid_lps_x_mm=centroid[0], centroid_lps_y_mm=centroid[1], centroid_lps_z_mm=centroid[2],
    )  # fmt: skip


def _voxel_ml(affine: Array) -> float:
    """The triple product of the voxel's edges, which is exact where a determinant by elimination is not quite: volumes are compared."""
    return float(abs(affine[:3, 0] @ np.cross(affine[:3, 1], affine[:3, 2]))) / 1000


def _lps(affine: Array, index: Array) -> list[float]:
    """NIfTI's RAS+ has the first two axes the other way round. Adding 0 turns -0.0 into 0.0."""
    position: list[float] = ((affine[:3, :3] @ index + affine[:3, 3]) * (-1, -1, 1) + 0.0).tolist()
    return position


def _regions(values: Array, threshold: float, through_slices: bool) -> _Parts:
    """Label slice by slice and join what touches from slice to slice: labels of the whole volume would need as much memory as the volume again."""
    areas = [_no_parts()]
    touching = [np.empty((2, 0), dtype=np.int64)]
    before, n_before, n_areas = np.empty((0, 0), dtype=np.int64), 0, 0
    for k in range(values.shape[2]):
        above = values[..., k] > threshold
        labels, n = label(above, connectivity=2, return_num=True) if above.any() else (before, 0)
        if n:
            rows, columns = np.nonzero(above)
            owner = labels[rows, columns] - 1
            areas.append(_joined(_voxels(rows, columns, k, values[rows, columns, k]), owner))
            if through_slices and n_before:
                own, other = _touching(rows, columns, owner, before)
                touching.append(np.stack([own + n_areas, other + n_areas - n_before]))
        before, n_before, n_areas = labels, n, n_areas + n
    parts = _Parts(*(np.concatenate(column) for column in zip(*areas, strict=True)))
    pairs = np.concatenate(touching, axis=1)
    graph = coo_matrix((np.ones(pairs.shape[1], dtype=bool), pairs), shape=(n_areas, n_areas))
    regions = connected_components(graph, directed=False)[1]
    order = np.lexsort(parts.place.T[[1, 0, 2]])
    return _joined(_Parts(*(column[order] for column in parts)), regions[order])


def _touching(rows: Array, columns: Array, owner: Array, before: Array) -> tuple[Array, Array]:
    """Areas of this slice, and those of the one before, labelled from 1, that they share a face, an edge or a corner with."""
    padded = np.pad(before, 1)
    share = csr_matrix((owner.max() + 1, before.max() + 1), dtype=bool)
    for r, c in np.ndindex(3, 3):
        other = padded[rows + r, columns + c]
        share = share + coo_matrix((other > 0, (owner, other)), shape=share.shape).tocsr()
    own, other = share.nonzero()
    return own, other - 1


def _voxels(rows: Array, columns: Array, slice_index: int, values: Array) -> _Parts:
    places = np.stack([rows, columns, np.full_like(rows, slice_index)], axis=1)
    return _Parts(np.ones(len(rows), dtype=np.int64), places, places, places, values, places)


def _no_parts() -> _Parts:
    none = np.empty(0, dtype=np.int64)
    return _voxels(none, none, 0, np.empty(0, dtype=np.float32))


def _joined(parts: _Parts, owner: Array) -> _Parts:
    """One part for all that have the same owner. Of equal peaks the first stays, so the parts come in the order of slices, rows and columns."""
    if not len(owner):
        return parts
    order = np.lexsort((-parts.peak, owner))  # stable
    start = np.flatnonzero(np.diff(owner[order], prepend=-1))
    voxels, position_sum, low, high = (column[order] for column in parts[:4])
    return _Parts(
        np.add.reduceat(voxels, start), np.add.reduceat(position_sum, start), np.minimum.reduceat(low, start), np.maximum.reduceat(high, start),
        parts.peak[order[start]], parts.place[order[start]],
    )  # fmt: skip
