"""Pseudo-anomalies: normal images made abnormal, with the mask of what changed; whole batches, any device."""

from .base import PseudoAbnormal, PseudoAnomaly
from .cutpaste import CutPaste
from .gaussian_patch import GaussianPatch
from .perlin_patch import PerlinPatch, perlin2
from .rectangle_cutpaste import RectangleCutPaste
from .released import released_cut_paste, released_simplex_patch, released_size
from .scar_cutpaste import ScarCutPaste
from .simplex import seeded_permutation, simplex3
from .simplex_patch import SimplexPatch

__all__ = [
    "CutPaste",
    "GaussianPatch",
    "PerlinPatch",
    "PseudoAbnormal",
    "PseudoAnomaly",
    "RectangleCutPaste",
    "ScarCutPaste",
    "SimplexPatch",
    "perlin2",
    "released_cut_paste",
    "released_simplex_patch",
    "released_size",
    "seeded_permutation",
    "simplex3",
]
