"""The built-in study: a made-up head CT study as real DICOM series, for a first run without data of one's own."""

from __future__ import annotations

from .folder import builtin_study, is_builtin_study, write_study

__all__ = ["builtin_study", "is_builtin_study", "write_study"]
