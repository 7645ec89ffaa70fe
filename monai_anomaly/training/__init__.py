"""Training a detector: the engine and its handlers, the run's record and checkpoint, calibration, and the model file that comes out."""

from .batch_norm import RefreshBatchNorm, sync_batch_norm
from .calibrating import CalibrateDetector
from .identity import identify
from .iterations import epochs_of
from .model_file import SaveDetector, load_detector, read_model_description, save_detector
from .progress import ProgressBar
from .record import RunRecord
from .resuming import TrainingCheckpoint, is_complete
from .seeding import EpochSeed
from .trainer import DistillationTrainer

__all__ = [
    "CalibrateDetector",
    "DistillationTrainer",
    "EpochSeed",
    "ProgressBar",
    "RefreshBatchNorm",
    "RunRecord",
    "SaveDetector",
    "TrainingCheckpoint",
    "epochs_of",
    "identify",
    "is_complete",
    "load_detector",
    "read_model_description",
    "save_detector",
    "sync_batch_norm",
]
