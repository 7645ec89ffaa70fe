"""Parameters and multiply-accumulates of a system, counted by one convention (the Skip-TS paper's Table IV)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["CONVENTION", "Cost", "count_cost"]

CONVENTION = (
    "1 MAC = one multiply-accumulate of a convolution, transposed convolution or linear layer; norms, activations, interpolation, biases and pooling "
    "count 0. The teacher is counted without its unused classifier."
)


class Cost(NamedTuple):
    """Cost of one part of a system, per image."""

    part: str
    parameters: int
    trainable: int
    macs: int


def count_cost(system: nn.Module, image_size: int = 256) -> list[Cost]:
    """Count each part of a system, and the whole in the last row, without computing a single value.

    Args:
        system: any of the systems, for example :class:`~monai_anomaly.networks.SkipTS`; it is moved to the meta device: pass one built for this.
        image_size: side of the square image in pixels.

    Example:
        >>> from monai_anomaly.networks import SkipTS, Teacher
        >>> for cost in count_cost(SkipTS(Teacher("resnet18", weights=None))):
        ...     print(cost.part, cost.parameters, cost.trainable, cost.macs)
        teacher 11176512 0 2368733184
        student 3703168 3703168 1560281088
        total 14879680 3703168 3929014272
    """
    system = system.to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        system(torch.empty(1, 3, image_size, image_size, device="meta"))
    # torch counts a multiply-accumulate as two operations.
    macs = {name: sum(counts.values()) // 2 for name, counts in counter.get_flop_counts().items()}
    root = type(system).__name__
    parts = [_cost(name, part, _macs(macs, f"{root}.{name}", part)) for name, part in system.named_children()]
    return [*parts, _cost("total", system, macs["Global"])]


def _macs(counted: dict[str, int], name: str, module: nn.Module) -> int:
    """Of a module; a list of modules is never called itself, so its entries are added up."""
    if name in counted:
        return counted[name]
    return sum(_macs(counted, f"{name}.{child}", part) for child, part in module.named_children())


def _cost(name: str, module: nn.Module, macs: int) -> Cost:
    parameters = list(module.parameters())
    return Cost(name, sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad), macs)
