"""The training loop of a teacher-student system, as a MONAI engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

__all__ = ["DistillationTrainer"]


class DistillationTrainer(SupervisedTrainer):
    """MONAI's trainer for losses over feature records.

    The batch's ``image`` is all that training needs; the output of an iteration is a dictionary of the loss terms (unweighted) and their weighted
    sum ``"loss"``, each a detached scalar, ready for the loggers.

    Args:
        device: where the network is.
        max_epochs: number of epochs.
        train_data_loader: batches with ``image`` ``(B, 3, H, W)``.
        network: an :class:`~monai_anomaly.networks.AnomalyDetector` (or its DDP wrapper), which returns features in training mode.
        optimizer: over the trainable parameters.
        loss_function: from features to named scalars with their sum under ``"loss"``; see :class:`monai_anomaly.losses.WeightedSum`.
        train_handlers: MONAI or ignite handlers.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[[Any], dict[str, Tensor]],
        train_handlers: Sequence[Any] | None = None,
    ):
        # decollating would cut every batch into single items for nothing
        super().__init__(
            device=device, max_epochs=max_epochs, train_data_loader=train_data_loader, network=network, optimizer=optimizer,
            loss_function=loss_function, train_handlers=train_handlers, decollate=False,
        )  # fmt: skip

    def _iteration(self, engine: DistillationTrainer, batchdata: dict[str, Any]) -> dict[str, Tensor]:  # type: ignore[override]
        image = batchdata["image"].to(engine.state.device, non_blocking=True)
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        terms = engine.loss_function(engine.network(image))
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        terms["loss"].backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        engine.optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {name: value.detach() for name, value in terms.items()}
