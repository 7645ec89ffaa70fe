"""Engines and handlers: training, calibration, evaluation, the run record and the model file."""

from .batch_norm import RefreshBatchNorm, sync_batch_norm
from .bulk import RecordSeries
from .calibrating import CalibrateDetector
from .checkpoint import SaveDetector, load_detector, read_model_description, save_detector
from .evaluator import AnomalyEvaluator
from .identity import identify
from .iterations import epochs_of
from .ledger import Entry, Ledger
from .pixels import PixelMetrics
from .progress import ProgressBar
from .ranks import RankSampler, from_rank_0, rank_device, start_ranks
from .record import RunRecord, versions
from .reporting import WriteResults
from .results import score_metrics
from .resuming import TrainingCheckpoint, is_complete
from .scores import PatientScore, ScoreCollector, SeriesScore, SliceScore, pool_patients, pool_series
from .seeding import EpochSeed
from .tables import ResultTables, Scored
from .trainer import DistillationTrainer

__all__ = [
    "AnomalyEvaluator",
    "CalibrateDetector",
    "DistillationTrainer",
    "Entry",
    "EpochSeed",
    "Ledger",
    "PatientScore",
    "PixelMetrics",
    "ProgressBar",
    "RankSampler",
    "RecordSeries",
    "RefreshBatchNorm",
    "ResultTables",
    "RunRecord",
    "SaveDetector",
    "ScoreCollector",
    "Scored",
    "SeriesScore",
    "SliceScore",
    "TrainingCheckpoint",
    "WriteResults",
    "epochs_of",
    "from_rank_0",
    "identify",
    "is_complete",
    "load_detector",
    "pool_patients",
    "pool_series",
    "rank_device",
    "read_model_description",
    "save_detector",
    "score_metrics",
    "start_ranks",
    "sync_batch_norm",
    "versions",
]
