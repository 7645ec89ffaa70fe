"""One of two processes under torchrun: does what tests/test_ranks.py looks at, and leaves it in ``rank_<k>.pt``."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from support.tiny import tiny_detector
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_anomaly.errors import DataError
from monai_anomaly.losses import ConsistencyLoss, SimilarityLoss, WeightedSum
from monai_anomaly.ranks import RankSampler, from_rank_0, gather, rank_device, start_ranks
from monai_anomaly.training import EpochSeed, RefreshBatchNorm

IMAGES_OF_RANK = (5, 3)
BATCH_SIZE = 2


class Images(torch.utils.data.Dataset):
    """What one rank trains on."""

    def __init__(self, rank: int):
        self.images = torch.rand(IMAGES_OF_RANK[rank], 3, 64, 64, generator=torch.Generator().manual_seed(rank))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:
        return {"image": self.images[k]}


def loss() -> WeightedSum:
    """The bundle's."""
    return WeightedSum({"similarity": SimilarityLoss(), "consistency": ConsistencyLoss()}, {"similarity": 1.0, "consistency": 0.05})


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The bundle's."""
    return torch.optim.Adam(parameters, lr=0.005, betas=(0.5, 0.999))


def refuse(seen: str) -> None:
    """What reading a bad file does."""
    raise DataError(f"{seen} is empty")


def draws(epoch: int) -> list[float]:
    """The first number of each generator in an epoch."""
    EpochSeed(7)(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
    return [torch.rand(()).item(), np.random.rand(), random.random()]


def refreshed(rank: int, synchronised: bool) -> dict[str, object]:
    """The statistics of one layer after the pass, and what went into it."""
    detector, inputs = tiny_detector(), []
    if synchronised:  # as on GPUs; in training such layers refuse a CPU
        detector.system.student = nn.SyncBatchNorm.convert_sync_batchnorm(detector.system.student)
    norm = detector.system.student.D3[0].bn1
    norm.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach().clone()))
    RefreshBatchNorm(detector, Images(rank), BATCH_SIZE, seed=0)(SimpleNamespace())
    return {"inputs": inputs, "mean": norm.running_mean, "var": norm.running_var, "type": type(norm).__name__, "momentum": norm.momentum}


def step(rank: int) -> dict[str, object]:
    """One step of training on this rank's images."""
    detector = tiny_detector()
    optimizer = adam(detector.trainable_parameters())
    network = DistributedDataParallel(detector, find_unused_parameters=False)
    network.train()
    loss()(network(Images(rank).images[:3]))["loss"].backward()
    gradients = [parameter.grad.clone() for parameter in detector.trainable_parameters()]
    optimizer.step()
    return {"gradients": gradients, "weights": [parameter.detach() for parameter in detector.trainable_parameters()]}


def main(folder: Path) -> None:
    start_ranks(rank_device())
    rank = torch.distributed.get_rank()
    found: dict[str, object] = {"value": from_rank_0(lambda: {"made on": rank}), "gathered": gather(f"of rank {rank}")}
    try:
        from_rank_0(lambda: refuse(f"scan {rank}"))
    except DataError as error:
        found["error"] = str(error)
    found["draws"] = [draws(epoch) for epoch in (1, 2, 1)]
    EpochSeed(7)(SimpleNamespace(state=SimpleNamespace(epoch=1)))
    found["order"] = [list(sampler) for sampler in [RankSampler(Images(rank))] for _ in range(2)]
    found["refreshed"] = [refreshed(rank, synchronised) for synchronised in (False, True)]
    found["step"] = step(rank)
    torch.save(found, folder / f"rank_{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
