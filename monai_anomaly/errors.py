"""The one exception family of the toolkit.

Everything that is read from outside (files, JSON, DICOM, checkpoints, command-line values) is caught once, where it comes in, and leaves as an
:class:`AnomalyError`. Its message is a sentence that says what was found, where, what was expected and what to do, without a patient's name.
"""

from __future__ import annotations

__all__ = ["AnomalyError", "CalibrationError", "CheckpointError", "DataError", "OptionError", "WeightsError"]


class AnomalyError(Exception):
    """Base class of every error that the toolkit raises on purpose.

    Example:
        >>> try:
        ...     raise DataError("empty.png holds 0 bytes; expected a PNG, JPEG, BMP or TIFF image: remove or replace it")
        ... except AnomalyError as error:
        ...     print(type(error).__name__)
        DataError
    """


class DataError(AnomalyError):
    """A file, series, folder or datalist that cannot be used as it is."""


class WeightsError(AnomalyError):
    """Teacher weights that cannot be found, read or matched."""


class CheckpointError(AnomalyError):
    """A saved detector that cannot be read or rebuilt."""


class CalibrationError(AnomalyError):
    """A false-alarm rate that the held-out normal scans cannot promise."""


class OptionError(AnomalyError, ValueError):
    """An option outside its allowed values."""
