"""From feature pairs to maps, from maps to scores, from scores to p-values."""

from .calibration import Calibration
from .maps import AnomalyMap, upsample_blur_matrix
from .pooling import Pooling

__all__ = ["AnomalyMap", "Calibration", "Pooling", "upsample_blur_matrix"]
