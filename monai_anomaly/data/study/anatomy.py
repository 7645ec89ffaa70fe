"""A made-up head, slice by slice, in Hounsfield units.

Every shape is a formula of the position in the head (millimetres, x to the left, y to the back, z to the top, as in DICOM),
and every edge is a ramp of about one pixel, which stands for the partial volume of a real scanner. Only additions, products,
roots and sparse sums are used on voxels: the same seed gives the same bytes whatever the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Head", "ScanGrid", "Volume", "add_noise", "compose", "draw_grid", "draw_head", "ramp", "smooth_field"]

Volume = NDArray[np.float32]
"""Values on the grid, shape (slices, rows, columns)."""

AIR_HU = -1000.0
SIZE_PX = 256


@dataclass(frozen=True)
class ScanGrid:
    """Where the voxels of a series lie; slices are axial, from bottom to top."""

    slices: int
    spacing_mm: float
    step_mm: float
    origin_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return self.slices, SIZE_PX, SIZE_PX


@dataclass(frozen=True)
class Head:
    """The coordinates of the voxels in the head, once for the skull and once for what moves inside it.

    ``depth`` is the distance below the inside of the skull in mm (negative outside), ``x``, ``y``, ``z`` the position in mm
    after the random deformation, ``gyri`` a field whose zero lines are the sulci, ``traits`` the numbers that make this patient.
    """

    depth: Volume
    x: Volume
    y: Volume
    z: Volume
    gyri: Volume
    traits: dict[str, float]


def ramp(distance_mm: Volume, width_mm: float = 1.2) -> Volume:
    """Rise from 0 (``distance_mm`` below ``-width_mm / 2``) to 1 (above ``width_mm / 2``), linearly.

    Example:
        >>> ramp(np.array([-5.0, 0.0, 5.0], np.float32)).tolist()
        [0.0, 0.5, 1.0]
    """
    risen: Volume = np.clip(distance_mm * np.float32(1 / width_mm) + np.float32(0.5), 0, 1)
    return risen


def smooth_field(rng: np.random.Generator, shape: tuple[int, int, int], nodes: tuple[float, float, float]) -> Volume:
    """Give a smooth random field of mean 0 and variance about 1: white noise on coarse nodes, joined by cubic B-splines.

    Args:
        rng: source of the noise.
        shape: (slices, rows, columns) of the result.
        nodes: distance of the nodes in voxels, per axis; structures are about three times as large.

    Example:
        >>> smooth_field(np.random.default_rng(0), (8, 32, 32), (3, 8, 8)).shape
        (8, 32, 32)
    """
    weights = [_bspline(n, step, rng.uniform()) for n, step in zip(shape, nodes, strict=True)]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for axis, weight in enumerate(weights):
        moved = np.moveaxis(field, axis, 0)
        flat = weight @ np.ascontiguousarray(moved).reshape(moved.shape[0], -1)
        field = np.moveaxis(flat.reshape(weight.shape[0], *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(field)


def _bspline(size: int, step: float, phase: float) -> sparse.csr_array:
    """Sparse (size, nodes) cubic B-spline weights, scaled so that unit white noise on the nodes gives unit variance on average."""
    position = np.arange(size) / step + phase
    first = np.floor(position).astype(int)
    t = position - first
    values = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    values /= np.sqrt((values**2).sum(axis=1, keepdims=True))
    columns = first[:, None] + np.arange(4)
    rows = np.repeat(np.arange(size), 4)
    return sparse.csr_array((values.ravel().astype(np.float32), (rows, columns.ravel())), shape=(size, int(columns.max()) + 1))


def draw_grid(rng: np.random.Generator) -> ScanGrid:
    """Draw the field of view of one patient: 8 axial slices of 256 x 256 pixels from the third ventricle upwards."""
    spacing = round(float(rng.uniform(0.90, 0.95)), 3)
    step = float(rng.choice([5.0, 5.5, 6.0]))
    half = spacing * (SIZE_PX - 1) / 2
    x, y = (round(float(rng.uniform(-5, 5)) - half, 2) for _ in range(2))
    return ScanGrid(8, spacing, step, (x, y, round(float(rng.uniform(-9, 3)), 2)))


def draw_head(rng: np.random.Generator, grid: ScanGrid) -> Head:
    """Draw one patient: size, shape, pose, a smooth deformation, gyri, ventricles, densities and calcifications."""
    shape = grid.shape
    z, y, x = (
        (np.arange(n, dtype=np.float32) * np.float32(step) + np.float32(start)).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, step, start) in enumerate(
            zip(shape, (grid.step_mm, grid.spacing_mm, grid.spacing_mm), grid.origin_mm[::-1], strict=True)
        )
    )
    yaw, pitch, roll = (float(v) for v in np.deg2rad(rng.normal(0, (3.0, 2.5, 1.5))))
    x, y = x * np.float32(np.cos(yaw)) + y * np.float32(np.sin(yaw)), y * np.float32(np.cos(yaw)) - x * np.float32(np.sin(yaw))
    y, z = y + z * np.float32(pitch), z - y * np.float32(pitch)
    x, z = x + z * np.float32(roll), z - x * np.float32(roll)
    spread = (4.0, 64.0, 64.0)
    x, y, z = (v + np.float32(1.2) * smooth_field(rng, shape, spread) for v in (x, y, z))

    size = rng.normal(0.99, 0.03)
    a, b, c = (np.float32(v) for v in size * np.array([66.0, 82.0, 74.0]) * rng.normal(1, 0.02, 3))
    wide = x / (1 + np.float32(rng.uniform(0.04, 0.11)) * y / b)
    radius = np.sqrt((wide / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    slope = np.sqrt((wide / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2) / np.maximum(radius, np.float32(0.05))
    depth = (1 - radius) / np.maximum(slope, np.float32(0.004))
    traits = {
        "scale": float(size),
        "skull_mm": rng.uniform(5.5, 7.5),
        "scalp_mm": rng.uniform(4.0, 6.5),
        "offset_hu": rng.normal(0, 1.0),
        "contrast_hu": rng.uniform(7.5, 10.5),
        "cupping_hu": rng.uniform(1.0, 4.0),
        "atrophy": rng.uniform(0.6, 1.1),
        "ventricles": rng.uniform(0.85, 1.25),
        "noise_hu": rng.uniform(1.6, 2.2),
        "pineal_mm": rng.uniform(0.6, 1.7),
        "choroid_left_mm": rng.uniform(0.4, 2.0),
        "choroid_right_mm": rng.uniform(0.4, 2.0),
        "calcification_hu": rng.uniform(50, 75),
    }
    return Head(depth, x, y, z, smooth_field(rng, shape, (1.6, 7.0, 7.0)), traits)


def add_noise(rng: np.random.Generator, hu: Volume, noise_hu: float) -> Volume:
    """Add the noise of a soft-tissue kernel: white noise smoothed over about two pixels, with a slower part, independent between slices."""
    half, quarter = np.float32(0.5), np.float32(0.25)
    fine: Volume = rng.standard_normal(hu.shape, dtype=np.float32)
    for axis in (1, 2):
        fine = half * fine + quarter * (np.roll(fine, 1, axis) + np.roll(fine, -1, axis))
    slow = smooth_field(rng, hu.shape, (1.0, 4.0, 4.0))
    # Two passes of (1/4, 1/2, 1/4) leave 0.375 of the deviation of white noise, which 0.9 / 0.375 brings back to 0.9.
    grain: Volume = np.float32(0.9 / 0.375) * fine + np.float32(0.35) * slow
    return hu + np.float32(noise_hu) * grain


def compose(rng: np.random.Generator, head: Head, brain_hu: Volume) -> Volume:
    """Put skull, scalp and air around ``brain_hu`` and add the cupping that beam hardening leaves under the bone."""
    traits, depth = head.traits, head.depth
    wobble = smooth_field(rng, depth.shape, (3.0, 40.0, 40.0))
    skull = np.float32(traits["skull_mm"]) * (1 + np.float32(0.12) * wobble)
    scalp = np.float32(traits["scalp_mm"]) * (1 - np.float32(0.12) * wobble)
    outside = -depth
    skin = np.where(outside > skull + scalp - 2, np.float32(35), np.float32(-70))
    middle = np.abs(outside / skull - np.float32(0.5))
    bone = np.float32(520) + np.float32(1300) * np.clip(middle - np.float32(0.12), 0, 0.38)
    near = np.clip(1 - depth * np.float32(1 / 22), 0, 1)
    hu: Volume = np.float32(AIR_HU) + (skin - np.float32(AIR_HU)) * ramp(skull + scalp - outside)
    hu = hu + (bone - hu) * ramp(skull - outside)
    return hu + (brain_hu + np.float32(traits["cupping_hu"]) * near**2 - hu) * ramp(depth)
