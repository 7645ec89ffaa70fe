"""Teacher, student decoder, one file per system, and the detector around them."""

import importlib
import pkgutil

from .cost import CONVENTION, Cost, count_cost
from .decoder import Decoder
from .detector import AnomalyDetector, Prediction
from .drd import DRD
from .esc_drkd import ESCDRKD
from .features import Features
from .rd4ad import RD4AD
from .released import load_released
from .scrd4ad import SCRD4AD
from .skip_ts import SkipTS
from .system import SYSTEMS, System
from .teacher import Teacher
from .traditional_kd import TraditionalKD

__all__ = [
    "CONVENTION", "DRD", "ESCDRKD", "RD4AD", "SCRD4AD", "SYSTEMS", "AnomalyDetector", "Cost", "Decoder", "Features", "Prediction", "SkipTS", "System",
    "Teacher", "TraditionalKD", "count_cost", "load_released",
]  # fmt: skip

for _file in pkgutil.iter_modules(__path__):
    # A system registers itself where it is defined: a new one is a new file in this folder and nothing else.
    importlib.import_module(f"{__name__}.{_file.name}")
