"""Losses over feature records, one idea per file."""

from .consistency import ConsistencyLoss
from .cosine import SimilarityLoss, level_map
from .weighted import WeightedSum

__all__ = ["ConsistencyLoss", "SimilarityLoss", "WeightedSum", "level_map"]
