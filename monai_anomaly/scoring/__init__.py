"""From feature pairs to maps, from maps to scores and findings, from scores to p-values."""

from .calibration import Calibration
from .findings import Finding, Findings, find_regions
from .maps import AnomalyMap, upsample_blur_matrix
from .pooling import Pooling
from .smoothing import smooth_through_slices

__all__ = ["AnomalyMap", "Calibration", "Finding", "Findings", "Pooling", "find_regions", "smooth_through_slices", "upsample_blur_matrix"]
