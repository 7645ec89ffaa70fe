"""Several processes as one run, under ``torchrun``: what one rank decides, all do; what each counted, all know."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Sized
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch.utils.data import RandomSampler

from .errors import AnomalyError, OptionError

__all__ = ["RankSampler", "from_rank_0", "gather", "rank_device", "start_ranks"]

T = TypeVar("T")

TIMEOUT = datetime.timedelta(days=1)
"""The others wait while rank 0 looks at held-out scans and evaluates. A process that dies is torchrun's to notice, not this limit's."""


def rank_device() -> torch.device:
    """The GPU of this process: the one of its number on its machine. Without any GPU, the CPU.

    Raises:
        OptionError: the machine has GPUs, but fewer than processes.

    Example:
        >>> rank_device().type in ("cuda", "cpu")
        True
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, n_gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= n_gpus:
        raise OptionError(
            f"Process {number + 1} of this machine finds {n_gpus} GPUs; expected one for each process: start torchrun with "
            f"--nproc_per_node={n_gpus}, or less."
        )
    return torch.device("cuda", number)


def start_ranks(device: str | torch.device) -> None:
    """Join the other processes that ``torchrun`` started: with NCCL between GPUs, with gloo between CPUs.

    Args:
        device: of this process.

    Raises:
        OptionError: it was not ``torchrun`` that started this process.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise OptionError(
            "A config for several processes was started as one (RANK and WORLD_SIZE are not set); expected torchrun in front: "
            "torchrun --standalone --nproc_per_node=2 -m monai.bundle run ..., or the config without its multi_gpu file."
        )
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)


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


class RankSampler(RandomSampler):
    """The slices of this rank's cases, shuffled, and as many on every rank as on the one that has most.

    Ranks wait for each other after each batch, so all need the same number. A rank with fewer slices goes through all of its own before it takes any of them
    once more. The order comes from torch's global generator, which :class:`~monai_anomaly.training.EpochSeed` seeds. All ranks have to make it together.

    Args:
        dataset: the slices of this rank.

    Example:
        >>> sorted(RankSampler(["a", "b", "c"]))
        [0, 1, 2]
    """

    def __init__(self, dataset: Sized):
        super().__init__(dataset, num_samples=max(gather(len(dataset))))
