"""DICOM: what a file is, which files make up a stack, and their pixels in the patient."""

from __future__ import annotations

from .grid import grid_of
from .header import Header
from .look import look
from .read import read_dicom
from .slice import Slice
from .stacks import check_stack, split_series, stack_affine

__all__ = ["Header", "Slice", "check_stack", "grid_of", "look", "read_dicom", "split_series", "stack_affine"]
