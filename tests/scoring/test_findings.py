"""Regions above a threshold against SciPy's labels, nibabel's coordinates and volumes counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.scoring import Calibration, find_regions

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() @ np.diag([0.7, -1.5, 2.5])
OBLIQUE[:3, 3] = -30, 12, 55
SHEARED = np.array([[0.8, 0, 0, 1], [0, 0.8, 0.7, 2], [0, 0, 2.3, 3], [0, 0, 0, 1]])
LPS = np.array([-1, -1, 1])


def lps(affine: np.ndarray, places: np.ndarray) -> np.ndarray:
    """DICOM's coordinates of voxels ``(n, 3)``, by nibabel."""
    return apply_affine(affine, places) * LPS


def noise(seed: int) -> np.ndarray:
    """Smooth noise, the kind of surface a map is."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(20, 17, 13)), 1.2).astype(np.float32)


@pytest.mark.parametrize("affine", [OBLIQUE, SHEARED], ids=["oblique", "sheared"])
@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_every_region_as_scipy_labels_it(quantile: float, affine: np.ndarray) -> None:
    values = noise(int(100 * quantile))
    threshold = float(np.quantile(values, quantile))
    labels, n = ndimage.label(values > threshold, structure=np.ones((3, 3, 3)))
    found = find_regions(values, threshold, affine, most=10**6)
    assert len(found.listed) == found.n_found == n > 0 and found.n_small == 0
    peaks = [finding.peak for finding in found.listed]
    assert peaks == sorted(peaks, reverse=True) and min(peaks) > threshold
    for finding in found.listed:
        inside = labels == labels[finding.peak_row, finding.peak_column, finding.peak_slice]
        places = np.argwhere(inside)
        assert finding.peak == values[inside].max() == values[finding.peak_row, finding.peak_column, finding.peak_slice]
        assert finding.voxels == len(places) and finding.area_px is None
        assert finding.volume_ml == pytest.approx(len(places) * abs(np.linalg.det(affine)) / 1000)
        assert (finding.first_slice, finding.last_slice) == (places[:, 2].min(), places[:, 2].max())
        extent = (np.ptp(places, axis=0) + 1) * np.linalg.norm(affine[:3, :3], axis=0)
        np.testing.assert_allclose((finding.height_mm, finding.width_mm, finding.depth_mm), extent)
        peak = lps(affine, np.array([finding.peak_row, finding.peak_column, finding.peak_slice]))
        np.testing.assert_allclose((finding.peak_lps_x_mm, finding.peak_lps_y_mm, finding.peak_lps_z_mm), peak)
        centroid = lps(affine, places).mean(axis=0)
        np.testing.assert_allclose((finding.centroid_lps_x_mm, finding.centroid_lps_y_mm, finding.centroid_lps_z_mm), centroid)


def test_volumes_counted_by_hand() -> None:
    """A box of 2 x 3 x 4 voxels of 0.5 x 0.5 x 2 mm is 12 mm3; one voxel that touches it by a corner belongs to it, one farther off does not."""
    values = np.zeros((10, 10, 10))
    values[2:4, 3:6, 4:8] = 1
    values[4, 6, 8] = 2
    values[9, 9, 0] = 3
    (lone, box), n_found, n_small = find_regions(values, 0.5, np.diag([0.5, 0.5, 2.0, 1.0]))
    assert (n_found, n_small) == (2, 0)
    assert (box.voxels, box.volume_ml) == (25, 0.0125) and (box.first_slice, box.last_slice, box.peak_slice) == (4, 8, 8)
    assert (box.height_mm, box.width_mm, box.depth_mm) == (1.5, 2.0, 10.0)
    assert (lone.voxels, lone.volume_ml, lone.peak, lone.peak_slice) == (1, 0.0005, 3.0, 0)
    assert (lone.peak_lps_x_mm, lone.peak_lps_y_mm, lone.peak_lps_z_mm) == (-4.5, -4.5, 0.0)


def test_pictures_and_frames_stand_alone() -> None:
    """Without a place in the patient, pixels of neighbouring frames are no neighbours, and there are neither millimetres nor millilitres."""
    values = np.zeros((6, 7, 3))
    values[1, 2, :] = 1, 3, 2
    values[2, 3, 1] = 2.5
    findings, n_found, n_small = find_regions(values, 0.5, min_volume_ml=1000)
    assert (n_found, n_small) == (3, 0)
    assert [(f.peak, f.peak_slice, f.first_slice, f.last_slice, f.area_px) for f in findings] == [
        (3, 1, 1, 1, 2),
        (2, 2, 2, 2, 1),
        (1, 0, 0, 0, 1),
    ]
    assert all((f.peak_row, f.peak_column) == (1, 2) for f in findings)
    assert all(value is None for f in findings for name, value in f._asdict().items() if name.endswith(("_mm", "_ml")) or name == "voxels")


def test_a_value_at_the_threshold_is_not_above_it() -> None:
    values = np.full((4, 4, 2), 0.1, dtype=np.float32)
    threshold = float(values[0, 0, 0])
    assert find_regions(values, threshold, np.eye(4)) == ((), 0, 0)
    values[1, 1, 1] = np.nextafter(values[1, 1, 1], np.float32(1))
    assert find_regions(values, threshold, np.eye(4)).listed[0].voxels == 1


def test_slices_that_were_not_scored_are_nothing_and_part_regions() -> None:
    values = np.ones((4, 4, 5), dtype=np.float32)
    values[..., 2] = np.nan
    lower, upper = find_regions(values, 0.5, np.eye(4)).listed
    assert (lower.first_slice, lower.last_slice, upper.first_slice, upper.last_slice) == (0, 1, 3, 4)
    assert find_regions(np.full((3, 3, 2), np.nan), 0.5, np.eye(4)) == ((), 0, 0)
    assert find_regions(np.full((3, 3, 2), np.nan), 0.5) == ((), 0, 0)


def test_equal_peaks_come_in_the_order_of_slices_rows_and_columns() -> None:
    values = np.zeros((9, 9, 9))
    places = [(8, 0, 0), (0, 4, 2), (4, 0, 2), (4, 8, 2), (0, 0, 6)]
    for place in places:
        values[place] = 1
    values[4, 1, 2] = 1  # a second voxel as high: the first is the peak
    findings = find_regions(values, 0.5, np.eye(4)).listed
    assert [(f.peak_row, f.peak_column, f.peak_slice) for f in findings] == places


def test_where_a_peak_lies_decides_and_not_where_its_region_begins() -> None:
    values = np.zeros((9, 9, 2))
    values[0:6, 0, 0] = 1  # begins before the other region, peaks behind it
    values[1:4, 8, 0] = 1
    values[5, 0, 0] = values[2, 8, 0] = 2
    apart = find_regions(values, 0.5, np.eye(4)).listed
    assert [(f.peak_row, f.peak_column) for f in apart] == [(2, 8), (5, 0)]
    values[5, :, 1] = values[3:6, 8, 1] = 1  # joins them in the next slice
    (joined,) = find_regions(values, 0.5, np.eye(4)).listed
    assert (joined.peak_row, joined.peak_column, joined.voxels) == (2, 8, 6 + 3 + 9 + 2)


def test_small_regions_are_left_out_and_counted_and_the_list_is_bounded() -> None:
    values = np.zeros((40, 40, 4))
    values[::2, ::2, 0] = 1 + np.arange(400).reshape(20, 20) / 1000
    values[0:3, 0:3, 2:4] = 5
    affine = np.diag([10.0, 10.0, 10.0, 1.0])  # a voxel is 1 ml
    found = find_regions(values, 0.5, affine, min_volume_ml=2.0)
    assert (len(found.listed), found.n_found, found.n_small) == (1, 1, 400)
    assert find_regions(values, 0.5, affine, min_volume_ml=1.0).n_small == 0  # exactly as large is large enough
    bounded = find_regions(values, 0.5, affine, most=10)
    assert (len(bounded.listed), bounded.n_found) == (10, 401)
    np.testing.assert_allclose([f.peak for f in bounded.listed], [5, *(1 + np.arange(399, 390, -1) / 1000)])


def test_the_memory_order_of_the_volume_does_not_matter() -> None:
    values = noise(3)
    turned = np.ascontiguousarray(values.transpose(2, 1, 0)[::-1])[::-1].transpose(2, 1, 0)
    assert turned.strides != values.strides
    assert find_regions(values, 0.1, OBLIQUE) == find_regions(turned, 0.1, OBLIQUE)


@pytest.mark.parametrize("ties", [False, True])
def test_a_normal_patient_has_any_finding_at_most_at_the_rate(ties: bool) -> None:
    """Many hospitals: the threshold from the highest value of each held-out normal patient, counted over new normal patients with several slices."""
    rng = np.random.default_rng(0)
    draws, n_held_out, n_new, rate = 400, 19, 5, 0.1
    share = []
    for _ in range(draws):
        maps = rng.gamma(2.0, size=(n_held_out + n_new, 6, 6, 3))
        maps = np.round(maps) if ties else maps
        threshold = Calibration(maps[:n_held_out].max(axis=(1, 2, 3))).threshold(rate)
        share.append(np.mean([find_regions(patient, threshold, np.eye(4)).n_found > 0 for patient in maps[n_held_out:]]))
    error = np.std(share) / np.sqrt(draws)
    assert np.mean(share) <= rate + 4 * error
    if not ties:
        assert np.mean(share) == pytest.approx(rate, abs=4 * error)


@pytest.mark.parametrize(
    "options", [{"threshold": np.nan}, {"threshold": np.inf}, {"min_volume_ml": -1}, {"min_volume_ml": np.nan}, {"most": 0}]
)
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="expected a finite number, 0 or more, and at least 1"):
        find_regions(np.zeros((2, 2, 2)), **{"threshold": 0.5, **options})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"\(rows, columns, slices\)"):
        find_regions(np.zeros((2, 2)), 0.5)
