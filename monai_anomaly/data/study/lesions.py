"""Bleeds and masses for the made-up head: drawn inside the brain, they push the tissue aside and replace its density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .anatomy import Head, ScanGrid, Volume, ramp, smooth_field

__all__ = ["draw_lesion", "paint", "push"]

MIN_AREA_PX = 20  # a cut through a lesion smaller than this is left out, so that no slice is abnormal by a handful of pixels


@dataclass(frozen=True)
class Lesion:
    """One lesion on the grid.

    ``inside`` is how much of each voxel it fills, ``hu`` its density, ``oedema`` how much of each voxel around it is swollen,
    ``shift_mm`` the displacement of the tissue along x and y.
    """

    inside: Volume
    hu: Volume
    oedema: Volume
    oedema_hu: float
    shift_mm: tuple[Volume, Volume]


def push(head: Head, lesion: Lesion) -> Head:
    """Move what lies inside the skull away from the lesion (mass effect); the skull stays."""
    return replace(head, x=head.x - lesion.shift_mm[0], y=head.y - lesion.shift_mm[1])


def paint(hu: Volume, lesion: Lesion) -> tuple[Volume, np.ndarray]:
    """Give the density with the lesion in it, and the mask (bool) of the voxels that the lesion fills by more than half."""
    hu = hu + (np.float32(lesion.oedema_hu) - hu) * np.float32(0.85) * lesion.oedema
    return hu + (lesion.hu - hu) * lesion.inside, lesion.inside > 0.5


def draw_lesion(rng: np.random.Generator, group: str, number: int, grid: ScanGrid, head: Head) -> Lesion:
    """Draw the ``number``-th lesion of a group ("bleed" or "mass"); the kinds take turns, so that a small study has them all."""
    kinds = KINDS[group]
    return kinds[number % len(kinds)](rng, grid, head)


def _place(rng: np.random.Generator, head: Head, margin_mm: float, deepest_mm: float = 60.0) -> tuple[int, float, float]:
    """A random voxel well inside the brain as (slice, x, y), the slices at both ends left out."""
    index = int(rng.integers(1, head.depth.shape[0] - 1))
    depth = head.depth[index]
    rows, columns = np.nonzero((depth > margin_mm) & (depth < deepest_mm))
    pick = int(rng.integers(rows.size))
    return index, float(head.x[index, rows[pick], columns[pick]]), float(head.y[index, rows[pick], columns[pick]])


def _offsets(grid: ScanGrid, head: Head, place: tuple[int, float, float]) -> tuple[Volume, Volume, Volume]:
    """Distance in mm of each voxel from the place, along x, y and across the slices."""
    index, x, y = place
    across = (np.arange(grid.slices, dtype=np.float32) - np.float32(index)) * np.float32(grid.step_mm)
    return head.x - np.float32(x), head.y - np.float32(y), across[:, None, None]


def _blob(
    rng: np.random.Generator, grid: ScanGrid, head: Head, radius_mm: float, half_height_mm: float, *, rough: float, margin_mm: float
) -> tuple[Volume, Volume, Volume, Volume]:
    """An irregular ellipsoid: depth below its surface in mm, relative radius, and the offsets from its centre."""
    dx, dy, dz = _offsets(grid, head, _place(rng, head, margin_mm))
    angle, stretch = float(rng.uniform(0, np.pi)), float(rng.uniform(0.75, 1.3))
    u = (dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))) * np.float32(1 / (radius_mm * stretch))
    v = (dy * np.float32(np.cos(angle)) - dx * np.float32(np.sin(angle))) * np.float32(stretch / radius_mm)
    rho = np.sqrt(u**2 + v**2 + (dz * np.float32(1 / half_height_mm)) ** 2)
    nodes = max(radius_mm / 2.2, 3.0)
    below = (1 - rho + np.float32(rough) * smooth_field(rng, grid.shape, (1.5, nodes, nodes))) * np.float32(radius_mm)
    return np.where(rho < 1.8, below, np.float32(-99)), rho, dx, dy


def _finish(
    below: Volume, hu: Volume, head: Head, *, oedema_mm: float = 0.0, oedema_hu: float = 20.0, shift: tuple[Volume, Volume] | None = None
) -> Lesion:
    """Cut the lesion at the skull, leave out slices where it is tiny, and lay the oedema around it in the slices that it keeps."""
    inside = ramp(below, 1.5) * ramp(head.depth - 1)
    kept = ((inside > 0.5).sum(axis=(1, 2)) >= MIN_AREA_PX)[:, None, None]
    oedema = ramp(below + np.float32(oedema_mm), 3.0) * ramp(head.depth - 5, 3.0) * kept if oedema_mm else np.zeros_like(inside)
    still = np.zeros_like(inside)
    return Lesion(inside * kept, hu, oedema, oedema_hu, (still, still) if shift is None else shift)


def _outward(rho: Volume, dx: Volume, dy: Volume, reach_mm: float) -> tuple[Volume, Volume]:
    """A push away from the centre that is largest at the surface and fades with the square of the distance."""
    strength = np.float32(reach_mm) * rho / (1 + rho**4) / np.maximum(np.sqrt(dx**2 + dy**2), 1)
    return strength * dx, strength * dy


def _texture(rng: np.random.Generator, grid: ScanGrid, mean_hu: float, spread_hu: float) -> Volume:
    return np.float32(mean_hu) + np.float32(spread_hu) * smooth_field(rng, grid.shape, (1.5, 5.0, 5.0))


def _haematoma(rng: np.random.Generator, grid: ScanGrid, head: Head) -> Lesion:
    """Blood in the tissue: irregular, 50 to 75 HU, a thin dark rim of oedema."""
    radius = float(rng.uniform(8, 18))
    below, rho, dx, dy = _blob(rng, grid, head, radius, float(rng.uniform(8, 15)), rough=0.22, margin_mm=radius)
    hu = _texture(rng, grid, float(rng.uniform(55, 75)), 2.0)
    return _finish(below, hu, head, oedema_mm=float(rng.uniform(2, 5)), oedema_hu=22, shift=_outward(rho, dx, dy, 0.25 * radius))


def _subdural(rng: np.random.Generator, grid: ScanGrid, head: Head) -> Lesion:
    """Blood under the dura: a crescent along one side, 48 to 70 HU, that pushes the hemisphere."""
    sign = np.float32(rng.choice([-1, 1]))
    index, y0 = int(rng.integers(2, grid.slices - 2)), float(rng.uniform(-25, 30))
    dz = ((np.arange(grid.slices) - index) * grid.step_mm / float(rng.uniform(11, 17))).astype(np.float32)[:, None, None]
    dy = (head.y - np.float32(y0)) * np.float32(1 / rng.uniform(34, 52))
    thick = np.float32(rng.uniform(8, 15)) * np.clip(1 - dy**2 - dz**2, 0, 1) * (sign * head.x > 0)
    below = np.where(thick > 1.0, thick - head.depth, np.float32(-99))
    shift = np.float32(-0.35) * sign * thick * ramp(head.depth, 30.0)
    return _finish(below, _texture(rng, grid, float(rng.uniform(50, 70)), 2.0), head, shift=(shift, np.zeros_like(shift)))


def _foci(rng: np.random.Generator, grid: ScanGrid, head: Head) -> Lesion:
    """Two to four small bright foci near each other, as contusions are."""
    centre = _place(rng, head, 6.0, 30.0)
    below = np.full(grid.shape, np.float32(-99))
    for _ in range(int(rng.integers(2, 5))):
        dx, dy, dz = _offsets(grid, head, (centre[0], centre[1] + float(rng.normal(0, 9)), centre[2] + float(rng.normal(0, 9))))
        radius = np.float32(rng.uniform(4.0, 6.5))
        rho = np.sqrt((dx / radius) ** 2 + (dy / radius) ** 2 + (dz * np.float32(1 / rng.uniform(7, 11))) ** 2)
        below = np.maximum(below, (1 - rho) * radius)
    return _finish(below, _texture(rng, grid, float(rng.uniform(58, 76)), 1.5), head, oedema_mm=2.0, oedema_hu=25)


def _ring(rng: np.random.Generator, grid: ScanGrid, head: Head) -> Lesion:
    """A mass with a bright rim, a fluid core, oedema and mass effect."""
    radius = float(rng.uniform(9, 16))
    below, rho, dx, dy = _blob(rng, grid, head, radius, float(rng.uniform(9, 15)), rough=0.12, margin_mm=radius)
    core = ramp(below - np.float32(rng.uniform(3.0, 5.5)), 1.5)
    rim_hu, core_hu = float(rng.uniform(52, 68)), float(rng.uniform(12, 22))
    hu = _texture(rng, grid, rim_hu, 1.0) + np.float32(core_hu - rim_hu) * core
    return _finish(below, hu, head, oedema_mm=float(rng.uniform(5, 11)), oedema_hu=19, shift=_outward(rho, dx, dy, 0.45 * radius))


def _dark(rng: np.random.Generator, grid: ScanGrid, head: Head) -> Lesion:
    """A mass less dense than the brain, with a blurred edge."""
    radius = float(rng.uniform(10, 18))
    below, rho, dx, dy = _blob(rng, grid, head, radius, float(rng.uniform(9, 15)), rough=0.2, margin_mm=radius)
    hu = _texture(rng, grid, float(rng.uniform(12, 21)), 1.5)
    return _finish(below, hu, head, oedema_mm=2.0, oedema_hu=23, shift=_outward(rho, dx, dy, 0.35 * radius))


def _equal(rng: np.random.Generator, grid: ScanGrid, head: Head) -> Lesion:
    """A mass about as dense as the cortex or a little denser: what gives it away is that the folds are gone, and its thin oedema."""
    radius = float(rng.uniform(10, 17))
    below, rho, dx, dy = _blob(rng, grid, head, radius, float(rng.uniform(9, 15)), rough=0.1, margin_mm=radius)
    hu = _texture(rng, grid, float(rng.uniform(40, 47)), 1.0)
    return _finish(below, hu, head, oedema_mm=float(rng.uniform(3, 7)), oedema_hu=20, shift=_outward(rho, dx, dy, 0.45 * radius))


KINDS: dict[str, tuple[Callable[[np.random.Generator, ScanGrid, Head], Lesion], ...]] = {
    "bleed": (_haematoma, _subdural, _haematoma, _foci),
    "mass": (_ring, _equal, _ring, _dark, _ring, _equal),
}
