"""Several processes as one run, under ``torchrun``: what one rank decides, all do; what each counted, all know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import ignite.distributed as idist
import torch.distributed as dist

from ..errors import AnomalyError

__all__ = ["from_rank_0", "gather"]

T = TypeVar("T")


def from_rank_0(make: Callable[[], T]) -> T:
    """Call ``make`` on rank 0 only and hand what it returns, or the error it raises, to every rank.

    So a file is read once, and no rank goes on where another stops. Without a process group it is a plain call.

    Args:
        make: takes nothing; returns something that can be pickled.

    Returns:
        What ``make`` returned on rank 0.

    Raises:
        AnomalyError: what ``make`` raised, on every rank.

    Example:
        >>> from_rank_0(lambda: 3)
        3
    """
    if idist.get_world_size() == 1:
        return make()
    told: list[Any] = [None, None]
    if idist.get_rank() == 0:
        try:
            told[0] = make()
        except AnomalyError as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    return told[0]  # type: ignore[no-any-return]


def gather(value: T) -> list[T]:
    """What each rank passed, in the order of the ranks; every rank has to call it.

    Args:
        value: something that can be pickled.

    Example:
        >>> gather({"slices": 5})
        [{'slices': 5}]
    """
    if idist.get_world_size() == 1:
        return [value]
    parts: list[Any] = [None] * idist.get_world_size()
    dist.all_gather_object(parts, value)
    return parts
