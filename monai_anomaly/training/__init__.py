"""Engines and handlers: training, calibration, evaluation, the run record and the model file."""

from .batch_norm import RefreshBatchNorm
from .calibrating import CalibrateDetector
from .checkpoint import SaveDetector, load_detector, save_detector
from .evaluator import AnomalyEvaluator
from .pixels import PixelMetrics
from .progress import ProgressBar
from .record import RunRecord, versions
from .reporting import WriteResults
from .results import score_metrics
from .scores import PatientScore, ScoreCollector, SeriesScore, SliceScore, pool_patients, pool_series
from .seeding import EpochSeed
from .trainer import DistillationTrainer

__all__ = [
    "AnomalyEvaluator",
    "CalibrateDetector",
    "DistillationTrainer",
    "EpochSeed",
    "PatientScore",
    "PixelMetrics",
    "ProgressBar",
    "RefreshBatchNorm",
    "RunRecord",
    "SaveDetector",
    "ScoreCollector",
    "SeriesScore",
    "SliceScore",
    "WriteResults",
    "load_detector",
    "pool_patients",
    "pool_series",
    "save_detector",
    "score_metrics",
    "versions",
]
