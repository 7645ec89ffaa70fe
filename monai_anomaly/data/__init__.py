"""What goes in: image folders, DICOM series and datalists become cases, and cases become slices."""

from __future__ import annotations

from .batches import UnitBatches
from .cache import CaseCache
from .cases import Case, CaseList, Refusal, case_files, case_name, case_patient
from .datalist import read_datalist, write_datalist
from .digests import find_duplicates, fingerprint, report_duplicates
from .find import find_case, find_cases
from .reader import CaseReader
from .shard import shard
from .slices import SliceDataset
from .sources import log_refused
from .splits import check_patients, split_calibration
from .study import builtin_study, is_builtin_study, write_study

__all__ = [
    "Case", "CaseCache", "CaseList", "CaseReader", "Refusal", "SliceDataset", "UnitBatches", "builtin_study", "case_files",
    "case_name", "case_patient", "check_patients", "find_case", "find_cases", "find_duplicates", "fingerprint",
    "is_builtin_study", "log_refused", "read_datalist", "report_duplicates", "shard", "split_calibration", "write_datalist", "write_study",
]  # fmt: skip
