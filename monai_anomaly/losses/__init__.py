"""Losses over feature records, one idea per file."""

from .consistency import ConsistencyLoss
from .contrastive import ContrastiveLoss
from .cosine import cosine_distance, level_map
from .projection import ProjectionLoss
from .segmentation import SegmentationLoss
from .similarity import SimilarityLoss
from .spatial import SpatialLoss
from .weighted import WeightedSum

__all__ = [
    "ConsistencyLoss", "ContrastiveLoss", "ProjectionLoss", "SegmentationLoss", "SimilarityLoss", "SpatialLoss", "WeightedSum", "cosine_distance",
    "level_map",
]  # fmt: skip
