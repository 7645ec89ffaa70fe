"""Teacher, student decoder, one file per system, and the detector around them."""

from torch import nn

from .cost import CONVENTION, Cost, count_cost
from .decoder import Decoder
from .detector import AnomalyDetector
from .features import Features
from .skip_ts import SkipTS
from .teacher import Teacher
from .traditional_kd import TraditionalKD

__all__ = ["CONVENTION", "SYSTEMS", "AnomalyDetector", "Cost", "Decoder", "Features", "SkipTS", "Teacher", "TraditionalKD", "count_cost"]

SYSTEMS: dict[str, type[nn.Module]] = {system.__name__: system for system in (SkipTS, TraditionalKD)}
"""The systems that a checkpoint may name; nothing else is ever built from one."""
