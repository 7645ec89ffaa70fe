"""What is not the same any more, in words: of two runs, or of the means by which one was computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["differences"]

_UNKNOWN = "not known"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each difference in a few words, with both values; of a SHA-256 its beginning.

    Args:
        then: names and plain values, none of them a mapping.
        now: the same as they are now; a name that only one of the two has is a difference.

    Example:
        >>> differences({"lr": 0.1, "seed": 1, "epochs": 3}, {"lr": 0.2, "seed": 1, "variant": "paper"})
        ['epochs was 3 and is not known', 'lr was 0.1 and is 0.2', 'variant was not known and is paper']
    """
    found = [(name, then.get(name, _UNKNOWN), now.get(name, _UNKNOWN)) for name in sorted({*then, *now})]
    return [f"{name} was {_short(old)} and is {_short(new)}" for name, old, new in found if old != new]


def _short(value: Any) -> Any:
    return f"{value[:12]}..." if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value
