"""Windows of CT values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import OptionError

__all__ = ["CT_WINDOWS_HU", "Window", "windows"]

CT_WINDOWS_HU: dict[str, tuple[float, float]] = {
    "brain": (0.0, 80.0),  # level 40, width 80
    "subdural": (-50.0, 150.0),  # level 50, width 200 (usual: level 50 to 100, width 130 to 300)
    "lung": (-1350.0, 150.0),  # level -600, width 1500
    "bone": (-500.0, 1300.0),  # level 400, width 1800
    "soft_tissue": (-150.0, 250.0),  # level 50, width 400
}
"""Lower and upper end of the usual windows, in Hounsfield units."""


class Window(NamedTuple):
    """One window: what lies below its lower end is black, what lies above its upper end white.

    Example:
        >>> str(Window(-50.0, 150.0, "subdural")), str(Window(0.0, 80.0))
        ('subdural -50 to 150', '0 to 80')
    """

    low_hu: float
    high_hu: float
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.low_hu:g} to {self.high_hu:g}".lstrip()


def windows(ct_window: Any) -> tuple[Window, ...]:
    """The one or three windows that an option asks for.

    Args:
        ct_window: a name in ``CT_WINDOWS_HU``; ``(lowest, highest)`` in HU; or a list of three of these (of one, too). JSON's lists will do for pairs.

    Raises:
        OptionError: anything else. Two windows are refused: a teacher takes one channel, repeated, or three.

    Example:
        >>> [window.high_hu for window in windows(["brain", [-50, 150], "bone"])]
        [80.0, 150.0, 1300.0]
    """
    single = _window(ct_window)
    if single is not None:
        return (single,)
    if isinstance(ct_window, Sequence) and not isinstance(ct_window, str):
        several = [window for window in map(_window, ct_window) if window is not None]
        if len(several) == len(ct_window) and len(several) in (1, 3):
            return tuple(several)
        if len(several) == len(ct_window) > 0:
            raise OptionError(
                f"ct_window names {len(several)} windows; expected one or three, because they become the channels: leave out or add."
            )
    raise OptionError(
        f"ct_window is {ct_window!r}; expected one of {', '.join(CT_WINDOWS_HU)}, a pair (lowest, highest) in Hounsfield units, or a list of three of these."
    )


def _window(value: Any) -> Window | None:
    if isinstance(value, str):
        return Window(*CT_WINDOWS_HU[value], value) if value in CT_WINDOWS_HU else None
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return Window(low, high) if low < high and np.isfinite([low, high]).all() else None
