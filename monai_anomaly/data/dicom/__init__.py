"""DICOM: what a file is, which files make up a stack, and their pixels in the patient."""

from __future__ import annotations

from .header import MAX_VOXELS, Header, Slice
from .read import Grid, grid_of, look, read_dicom
from .stacks import check_stack, split_series, stack_affine

__all__ = [
    "MAX_VOXELS", "Grid", "Header", "Slice", "check_stack", "grid_of", "look", "read_dicom", "split_series", "stack_affine",
]  # fmt: skip
