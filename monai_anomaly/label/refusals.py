"""What is refused, as an answer that a client can show: MONAI Label itself would answer 500 without a word."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException

from ..errors import AnomalyError, CheckpointError

__all__ = ["RequestError", "answering", "check_known"]


class RequestError(AnomalyError, HTTPException):
    """A request that cannot be answered. FastAPI sends the sentence; what runs within the server catches it as any other of the toolkit's errors.

    Args:
        message: the sentence.
        status: of the HTTP answer.

    Example:
        >>> RequestError("There is no image called 7.", 404).status
        404
    """

    def __init__(self, message: str, status: int = 422):
        HTTPException.__init__(self, status, message)
        self.args, self.status = (message,), status

    def __str__(self) -> str:
        """The sentence alone."""
        return str(self.detail)


@contextmanager
def answering() -> Iterator[None]:
    """Turn an :class:`~monai_anomaly.errors.AnomalyError` into an HTTP answer with its sentence as ``detail``.

    The status is that of a :class:`RequestError`, 409 (conflict) for a model that is not there or cannot be read, and 422 (unprocessable) for whatever
    else cannot be used: a study, an option.

    Raises:
        RequestError: instead of the error.

    Example:
        >>> from monai_anomaly.errors import DataError
        >>> with answering():
        ...     raise DataError("empty.png holds 0 bytes")
        Traceback (most recent call last):
        ...
        monai_anomaly.label.refusals.RequestError: empty.png holds 0 bytes
    """
    try:
        yield
    except AnomalyError as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(str(error), 409 if isinstance(error, CheckpointError) else 422) from error


def check_known(what: str, name: Any, known: Collection[str]) -> None:
    """Make sure that a client names something that there is.

    Args:
        what: what it names.
        name: what it says; anything.
        known: the names that there are.

    Raises:
        RequestError: it names none of them.

    Example:
        >>> check_known("model", "unet", ["skipts"])
        Traceback (most recent call last):
        ...
        monai_anomaly.label.refusals.RequestError: There is no model 'unet'; expected one of skipts.
    """
    if not isinstance(name, str) or name not in known:
        raise RequestError(f"There is no {what} {str(name)[:100]!r}; expected one of {', '.join(known)}.", 404)
