"""What lies inside the made-up skull: cortex, white matter, deep nuclei, ventricles, falx and the calcifications of healthy people."""

from __future__ import annotations

import numpy as np

from .anatomy import Head, Volume, ramp, smooth_field

__all__ = ["brain_hu"]

CSF_HU = 7.0
GREY_HU = 36.0
FALX_HU = 46.0

# Centre (distance from the midline, y, z) and radii in mm of paired structures in a head of ordinary size.
DEEP_GREY = {
    "thalamus": ((11.0, 10.0, 3.0), (8.0, 14.0, 10.0)),
    "lentiform": ((23.0, -6.0, 1.0), (7.0, 15.0, 11.0)),
    "caudate": ((14.5, -24.0, 7.0), (4.5, 9.0, 11.0)),
}
VENTRICLES = {
    "frontal horn": ((7.5, -27.0, 8.0), (4.2, 12.0, 10.0)),
    "body": ((9.0, -2.0, 19.0), (5.0, 27.0, 6.5)),
    "atrium": ((22.0, 30.0, 9.0), (6.0, 12.0, 10.0)),
    "occipital horn": ((23.0, 42.0, 3.0), (4.0, 13.0, 6.0)),
}
CISTERNS = {
    "third ventricle": ((0.0, 6.0, -3.0), (2.0, 13.0, 9.0)),
    "quadrigeminal cistern": ((0.0, 31.0, -6.0), (11.0, 4.0, 7.0)),
    "Sylvian fissure": ((45.0, -8.0, -3.0), (3.0, 14.0, 10.0)),
}


def brain_hu(rng: np.random.Generator, head: Head) -> Volume:
    """Give the density inside the skull in HU, shape (slices, rows, columns), without scanner noise.

    Example:
        >>> from monai_anomaly.data.study.anatomy import draw_grid, draw_head
        >>> rng = np.random.default_rng(0)
        >>> brain_hu(rng, draw_head(rng, draw_grid(rng))).shape
        (8, 256, 256)
    """
    traits, depth = head.traits, head.depth
    scale = np.float32(1 / traits["scale"])
    side, x, y, z = np.abs(head.x) * scale, head.x * scale, head.y * scale, head.z * scale
    atrophy, ventricles = np.float32(traits["atrophy"]), np.float32(traits["ventricles"])
    slow = smooth_field(rng, depth.shape, (3.0, 30.0, 30.0))
    fine = smooth_field(rng, depth.shape, (1.0, 3.0, 3.0))

    # The zero lines of a smooth random field wind as sulci do; its gradient is about 0.25 per mm, which turns values into millimetres.
    from_sulcus = np.abs(head.gyri) * np.float32(4.0)
    reach = 15 + 4 * slow + np.float32(0.5) * np.clip(z - 20, 0, 30)
    cortex = np.maximum(ramp(4.5 - depth, 2.0), ramp(4.0 - from_sulcus, 2.5) * ramp(reach + 4 - depth, 6.0))
    sulci = ramp(np.float32(0.85) * atrophy - from_sulcus, 1.6) * ramp(reach - depth, 8.0)
    surface = ramp(np.float32(1.8) * atrophy - depth)

    nuclei = _union(DEEP_GREY, side, y, z, np.float32(1))
    grey = np.maximum(cortex, np.float32(0.6) * nuclei)
    white_hu = np.float32(GREY_HU - traits["contrast_hu"])
    tissue_hu = white_hu + np.float32(traits["offset_hu"]) + np.float32(0.7) * slow + np.float32(0.6) * fine
    hu = tissue_hu + np.float32(traits["contrast_hu"]) * grey

    # Between the hemispheres: everywhere in front and behind, and above the corpus callosum in the middle.
    open_midline = np.maximum(np.maximum(ramp(-44 - y, 5.0), ramp(y - 46, 5.0)), ramp(z - 31, 5.0))
    fissure = ramp(np.float32(1.7) * atrophy - side, 1.5) * open_midline
    lateral = _union(VENTRICLES, side, y, z, ventricles)
    fluid = np.maximum.reduce([np.float32(0.65) * sulci, surface, fissure, lateral, _union(CISTERNS, side, y, z, atrophy)])
    hu = hu + (np.float32(CSF_HU) - hu) * fluid
    hu = hu + (np.float32(FALX_HU) - hu) * np.float32(0.8) * ramp(np.float32(0.7) - side) * open_midline
    return _calcify(hu, head, x, y, z)


def _union(
    shapes: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]], side: Volume, y: Volume, z: Volume, size: np.float32
) -> Volume:
    """How much of each voxel lies in any of the ellipsoids, whose radii are multiplied by ``size``."""
    union: Volume = np.maximum.reduce([_ellipsoid(side, y, z, centre, radii, size) for centre, radii in shapes.values()])
    return union


def _ellipsoid(
    x: Volume, y: Volume, z: Volume, centre: tuple[float, float, float], radii: tuple[float, float, float], size: np.float32 | float = 1.0
) -> Volume:
    squares = sum(((v - np.float32(c)) / (np.float32(r) * np.float32(size))) ** 2 for v, c, r in zip((x, y, z), centre, radii, strict=True))
    return ramp((1 - np.sqrt(squares)) * np.float32(min(radii[:2]) * size), 1.5)


def _calcify(hu: Volume, head: Head, x: Volume, y: Volume, z: Volume) -> Volume:
    """Bright spots of healthy people (pineal gland, choroid plexus): not every bright spot is blood."""
    value = np.float32(head.traits["calcification_hu"])
    for key, centre in (("pineal_mm", (0.0, 27.0, 1.0)), ("choroid_left_mm", (21.0, 29.0, 9.0)), ("choroid_right_mm", (-21.0, 29.0, 9.0))):
        r = head.traits[key]
        if r > 1.2:  # smaller ones are lost between the slices
            hu = hu + (value - hu) * _ellipsoid(x, y, z, centre, (r, r * 1.4, 5.0))
    return hu
