"""A budget in iterations, as some papers state it, in the whole epochs that a run consists of."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import ignite.distributed as idist
from monai.data import partition_dataset

from ..data import Case
from ..data.prepared import Transform, count_slices
from ..errors import DataError, OptionError
from ..ranks import from_rank_0

__all__ = ["epochs_of"]

logger = logging.getLogger(__name__)


def epochs_of(iterations: int, cases: Sequence[Case], transform: Transform, batch_size: int, seed: int) -> int:
    """How many whole epochs are at least that many iterations.

    It is told by the headers of the files, so that a run which is complete, or of another length than is asked for, is known as such before anything is
    decoded. Slices that are left out when they are decoded (empty or marked ones) make an epoch shorter than it was taken for.

    Args:
        iterations: batches to train on, in each of several processes.
        cases: the cases to train on, all of them.
        transform: from a case to its slices, as :class:`~monai_anomaly.data.SliceDataset` takes it.
        batch_size: slices in a batch of one process.
        seed: of the run; it says which process has which cases.

    Raises:
        OptionError: iterations or batch_size is no whole number from 1 upwards.
        DataError: there are no cases.

    Example:
        >>> epochs_of(100, [{"image": f"{k}.png"} for k in range(50)], dict, batch_size=16, seed=0)
        25
    """
    for name, value in (("iterations", iterations), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} is {value!r}; expected a whole number from 1 upwards.")
    if not cases:
        raise DataError("There are no cases to train on; expected at least one: check the data folder and the split.")
    batches = from_rank_0(lambda: _batches(cases, transform, batch_size, seed))
    epochs = math.ceil(iterations / batches)
    logger.info(
        "%d iterations are %d epochs of %d batches, as the headers count the slices; where some are left out, an epoch is shorter, and --epochs says how many.",
        iterations, epochs, batches,
    )  # fmt: skip
    return epochs


def _batches(cases: Sequence[Case], transform: Transform, batch_size: int, seed: int) -> int:
    """Of the process that has most slices, which is what all of them do; the parts are those of :func:`monai_anomaly.data.shard`."""
    slices = [count_slices(case, transform) for case in cases]
    parts = partition_dataset(slices, num_partitions=min(idist.get_world_size(), len(slices)), shuffle=True, seed=seed)
    return math.ceil(max(sum(part) for part in parts) / batch_size)
