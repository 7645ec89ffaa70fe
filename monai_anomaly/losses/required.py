"""What a loss or a map needs of the features, or a sentence."""

from __future__ import annotations

from typing import Any

from ..errors import OptionError
from ..networks import Features

__all__ = ["required"]


def required(features: Features, *names: str, by: str) -> tuple[Any, ...]:
    """Take fields of the features that not every system fills.

    Args:
        features: what a system returned.
        names: fields of :class:`~monai_anomaly.networks.Features`.
        by: who needs them, for the message.

    Returns:
        The fields' values, in order.

    Raises:
        OptionError: the system did not fill one of them.

    Example:
        >>> import torch
        >>> levels = (torch.zeros(1, 4, 2, 2),)
        >>> required(Features(teacher=levels, student=levels), "scale_weights", by="The weighted map")
        Traceback (most recent call last):
        ...
        monai_anomaly.errors.OptionError: The weighted map needs scale_weights of the features; the system gave only teacher, student: ...
    """
    values = tuple(getattr(features, name) for name in names)
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        given = ", ".join(name for name, value in zip(features._fields, features, strict=True) if value is not None)
        raise OptionError(
            f"{by} needs {', '.join(missing)} of the features; the system gave only {given}: choose a system that computes them"
            f"{', trained with pseudo-anomalies,' if any(name.startswith('pseudo') for name in missing) else ''} or another rule."
        )
    return values
