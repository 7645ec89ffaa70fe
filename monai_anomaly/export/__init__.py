"""The whole detector as one file for other runtimes, written only when it agrees with its model."""

from .export import Exported, export_detector
from .formats import FORMATS, open_exported
from .module import ExportedDetector
from .parity import MAP_TOLERANCE, SCORE_ROUNDING, Parity, ParityCheck

__all__ = [
    "FORMATS",
    "MAP_TOLERANCE",
    "SCORE_ROUNDING",
    "Exported",
    "ExportedDetector",
    "Parity",
    "ParityCheck",
    "export_detector",
    "open_exported",
]
