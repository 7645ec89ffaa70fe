"""Decoded cases between epochs and runs: on disk by what they were made from, in memory as far as they fit."""

from __future__ import annotations

from .case_cache import CaseCache
from .describe import describe
from .kept import KeptCases

__all__ = ["CaseCache", "KeptCases", "describe"]
