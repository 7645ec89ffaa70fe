"""Scoring scans with a detector: the engine, the scores of slices, series and patients, their metrics and tables, and which series are finished."""

from .evaluator import AnomalyEvaluator
from .ledger import Entry, Ledger
from .pixels import PixelMetrics
from .record_series import RecordSeries
from .score_metrics import score_metrics
from .scores import ScoreCollector, SliceScore, pool_patients, pool_series
from .tables import ResultTables, Scored
from .write_results import WriteResults

__all__ = [
    "AnomalyEvaluator",
    "Entry",
    "Ledger",
    "PixelMetrics",
    "RecordSeries",
    "ResultTables",
    "ScoreCollector",
    "Scored",
    "SliceScore",
    "WriteResults",
    "pool_patients",
    "pool_series",
    "score_metrics",
]
