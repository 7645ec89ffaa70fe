"""DICOM: what a file is, which files make up a stack, and their pixels in the patient."""

from __future__ import annotations

from .frames import mosaic_of, slices_of_frames, stack_of_frames
from .header import MAX_VOXELS, Header, Slice, parse_header
from .open import open_dicom
from .read import DicomImage, Grid, Look, grid_of, look, read_dicom
from .stacks import check_stack, split_series, stack_affine

__all__ = [
    "MAX_VOXELS", "DicomImage", "Grid", "Header", "Look", "Slice", "check_stack", "grid_of", "look", "mosaic_of", "open_dicom", "parse_header",
    "read_dicom", "slices_of_frames", "split_series", "stack_affine", "stack_of_frames",
]  # fmt: skip
