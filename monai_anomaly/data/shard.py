"""The cases of one process of several, so that memory and decoding are divided among them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from monai.data import partition_dataset

from ..errors import DataError
from .cases import Case

__all__ = ["shard"]

logger = logging.getLogger(__name__)


def shard(cases: Sequence[Case], rank: int, processes: int, seed: int) -> list[Case]:
    """The cases that one rank trains on. Every case is on exactly one rank, and no rank has two more than another.

    Args:
        cases: the same cases in the same order on every rank.
        rank: number of this process, from 0.
        processes: how many there are.
        seed: of the shuffling that comes before; the same on every rank.

    Raises:
        DataError: there are fewer cases than ranks.

    Example:
        >>> cases = [{"image": f"{k}.png"} for k in range(5)]
        >>> [len(shard(cases, rank, 2, seed=0)) for rank in (0, 1)]
        [3, 2]
    """
    if len(cases) < processes:
        raise DataError(
            f"There are {len(cases)} cases to train on, and {processes} processes; expected at least one case for each: start fewer processes "
            "(--nproc_per_node of torchrun), or use train.json alone."
        )
    parts: list[list[Case]] = partition_dataset(cases, num_partitions=processes, shuffle=True, seed=seed)
    logger.info("%d cases to train on, in %d parts: process %d has %d of them.", len(cases), processes, rank, len(parts[rank]))
    return parts[rank]
