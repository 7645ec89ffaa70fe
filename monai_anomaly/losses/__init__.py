"""Losses over feature records, one idea per file."""

from .consistency import ConsistencyLoss
from .contrastive import ContrastiveLoss
from .cosine import SimilarityLoss, cosine_distance, level_map
from .projection import ProjectionLoss
from .refinement import SegmentationLoss
from .required import required
from .spatial import SpatialLoss
from .weighted import WeightedSum

__all__ = [
    "ConsistencyLoss", "ContrastiveLoss", "ProjectionLoss", "SegmentationLoss", "SimilarityLoss", "SpatialLoss", "WeightedSum", "cosine_distance",
    "level_map", "required",
]  # fmt: skip
