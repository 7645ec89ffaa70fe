"""One made-up patient: anatomy, a lesion or none, skull and noise, put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .anatomy import ScanGrid, add_noise, compose, draw_grid, draw_head
from .brain import brain_hu
from .lesions import draw_lesion, paint, push

__all__ = ["Phantom", "make_phantom"]


@dataclass(frozen=True)
class Phantom:
    """The scan of one made-up patient: ``hu`` int16 and ``mask`` uint8 (0/1), both (slices, rows, columns) on ``grid``."""

    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    grid: ScanGrid


def make_phantom(seed: int, number: int, group: str, turn: int = 0) -> Phantom:
    """Make patient ``number`` of the study ``seed``.

    Anatomy, lesion and noise draw from streams of their own, so that a patient differs from the same one in good health
    by the lesion alone.

    Args:
        seed: the study's seed.
        number: the patient's number; with the seed it decides everything about head, pose and noise.
        group: "good", "bleed" or "mass".
        turn: which of the group's kinds of lesion, counted through.

    Example:
        >>> phantom = make_phantom(0, 1, "bleed")
        >>> phantom.hu.shape, phantom.hu.dtype.name, bool(phantom.mask.any())
        ((8, 256, 256), 'int16', True)
    """
    body, lesion_rng, scanner = (np.random.default_rng([seed, number, stream]) for stream in range(3))
    grid = draw_grid(body)
    head = draw_head(body, grid)
    if group == "good":
        brain, mask = brain_hu(body, head), np.zeros(grid.shape, dtype=bool)
    else:
        lesion = draw_lesion(lesion_rng, group, turn, grid, head)
        brain, mask = paint(brain_hu(body, push(head, lesion)), lesion)
    hu = add_noise(scanner, compose(body, head, brain), head.traits["noise_hu"])
    return Phantom(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), mask.astype(np.uint8), grid)
