"""The one exception family of the toolkit.

Everything that is read from outside (files, JSON, DICOM, checkpoints, command-line values) is caught once, where it comes in, and leaves as an
:class:`AnomalyError`. Its message is a sentence that says what was found, where, what was expected and what to do, without a patient's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "AnomalyError",
    "CalibrationError",
    "CheckpointError",
    "DataError",
    "ExportError",
    "OptionError",
    "WeightsError",
    "error_chain",
    "find_anomaly_error",
    "reason",
    "unwrapped",
]


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


class ExportError(AnomalyError):
    """An exported detector that cannot be made, or does not agree with its model."""


class OptionError(AnomalyError, ValueError):
    """An option outside its allowed values."""


def find_anomaly_error(error: BaseException | None) -> AnomalyError | None:
    """The toolkit's own error behind one that a library raised because of it: MONAI wraps what the parts of a config raise.

    Example:
        >>> outer = RuntimeError("failed to instantiate")
        >>> outer.__cause__ = DataError("empty.png holds 0 bytes")
        >>> find_anomaly_error(outer)
        DataError('empty.png holds 0 bytes')
    """
    return next((one for one in error_chain(error) if isinstance(one, AnomalyError)), None)


def error_chain(error: BaseException | None) -> list[BaseException]:
    """An error and what led to it, each once; the innermost comes last.

    Example:
        >>> outer = RuntimeError("failed to instantiate")
        >>> outer.__cause__ = OSError("disk full")
        >>> [type(one).__name__ for one in error_chain(outer)]
        ['RuntimeError', 'OSError']
    """
    chain: list[BaseException] = []
    while error is not None and not any(error is one for one in chain):  # an error can be its own cause: raise error from error
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


@contextmanager
def unwrapped() -> Iterator[None]:
    """Let the toolkit's own error come out where MONAI has wrapped what the parts of a config raise; any other comes out as it is.

    Raises:
        AnomalyError: the error behind the one that was raised within, which is its cause.

    Example:
        >>> with unwrapped():
        ...     raise RuntimeError("failed to instantiate") from DataError("empty.png holds 0 bytes")
        Traceback (most recent call last):
        ...
        monai_anomaly.errors.DataError: empty.png holds 0 bytes
    """
    try:
        yield
    except Exception as error:
        found = find_anomaly_error(error)
        if found is None or found is error:
            raise
        raise found from error


def reason(error: BaseException) -> str:
    """An error as part of a sentence, without the path that the operating system adds.

    Example:
        >>> reason(FileNotFoundError(2, "No such file or directory", "scan.png"))
        'No such file or directory'
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:300].rstrip(".") or type(error).__name__
