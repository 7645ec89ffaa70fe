"""Teacher, student decoder, one file per system, and the detector around them."""

import importlib
import pkgutil

from .cost import CONVENTION, Cost, count_cost
from .decoder import Decoder
from .detector import AnomalyDetector, Prediction
from .features import Features
from .skip_ts import SkipTS
from .system import SYSTEMS, System
from .teacher import Teacher
from .traditional_kd import TraditionalKD

__all__ = [
    "CONVENTION", "SYSTEMS", "AnomalyDetector", "Cost", "Decoder", "Features", "Prediction", "SkipTS", "System", "Teacher", "TraditionalKD", "count_cost",
]  # fmt: skip

for _file in pkgutil.iter_modules(__path__):
    # A system registers itself where it is defined: a new one is a new file in this folder and nothing else.
    importlib.import_module(f"{__name__}.{_file.name}")
