"""The training loop of a teacher-student system, as a MONAI engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn

from ..errors import OptionError
from ..transforms import from_unit_range, to_unit_range
from ..transforms.pseudo import PseudoAbnormal

__all__ = ["DistillationTrainer"]


class DistillationTrainer(SupervisedTrainer):
    """MONAI's trainer for losses over feature records.

    The batch's ``image`` is all that training needs; pseudo-abnormal images are made of it on the device, the whole batch at once, from the random
    numbers of ``state.generator`` (see :class:`~monai_anomaly.training.EpochSeed`). The output of an iteration is a dictionary of the loss terms
    (unweighted) and their weighted sum ``"loss"``, of what the features have to be watched, and of ``"pseudo_unchanged"``, the share of pseudo-abnormal
    images in which nothing changed; each a detached scalar, ready for the loggers.

    Args:
        device: where the network is.
        max_epochs: number of epochs.
        train_data_loader: batches with ``image`` ``(B, 3, H, W)``.
        network: an :class:`~monai_anomaly.networks.AnomalyDetector` (or its DDP wrapper), which returns features in training mode.
        optimizer: over the trainable parameters.
        loss_function: from features to named scalars with their sum under ``"loss"``; see :class:`monai_anomaly.losses.WeightedSum`.
        pseudo_anomaly: from images ``(B, 3, H, W)`` in [0, 1] and a generator to :class:`~monai_anomaly.transforms.pseudo.PseudoAbnormal`, for systems that are
            trained with them; see :mod:`monai_anomaly.transforms.pseudo`.
        amp: run the network in bfloat16 where autocast does (convolutions); its weights, cosines and losses stay float32.
        train_handlers: MONAI or ignite handlers.

    Raises:
        OptionError: the system needs a pseudo-anomaly and there is none, or the other way round.
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
        pseudo_anomaly: Callable[[Tensor, torch.Generator], PseudoAbnormal] | None = None,
        amp: bool = False,
    ):
        system: Any = getattr(network, "module", network).system  # perhaps in DDP's wrapper
        if system.needs_pseudo != (pseudo_anomaly is not None):
            given = "none" if pseudo_anomaly is None else type(pseudo_anomaly).__name__
            raise OptionError(
                f"{type(system).__name__} is trained {'with' if system.needs_pseudo else 'without'} pseudo-anomalies; the trainer was given {given}: correct "
                "pseudo_anomaly."
            )
        # decollating would cut every batch into single items for nothing
        super().__init__(
            device=device, max_epochs=max_epochs, train_data_loader=train_data_loader, network=network, optimizer=optimizer,
            loss_function=loss_function, train_handlers=train_handlers, decollate=False,
        )  # fmt: skip
        # Not ``amp`` of MONAI's trainer, which is float16 with a scaler, and on GPUs only.
        self.pseudo_anomaly, self.bfloat16 = pseudo_anomaly, amp
        self.state.generator = torch.Generator().manual_seed(torch.initial_seed())

    def _iteration(self, engine: DistillationTrainer, batchdata: dict[str, Any]) -> dict[str, Tensor]:  # type: ignore[override]
        image = batchdata["image"].to(engine.state.device, non_blocking=True)
        pseudo = engine._disturb(image)
        engine.network.train()
        engine.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=engine.bfloat16):
            features = engine.network(image) if pseudo is None else engine.network(image, pseudo)
        terms = engine.loss_function(features.float())
        engine.fire_event(IterationEvents.LOSS_COMPLETED)
        terms["loss"].backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        engine.optimizer.step()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        watched = features.watched()
        if pseudo is not None:
            watched["pseudo_unchanged"] = 1 - pseudo.mask.flatten(1).any(dim=1).float().mean()
        return {**{name: value.detach() for name, value in terms.items()}, **watched}

    def _disturb(self, image: Tensor) -> PseudoAbnormal | None:
        if self.pseudo_anomaly is None:
            return None
        disturbed, mask = self.pseudo_anomaly(to_unit_range(image), self.state.generator)
        # Rounding there and back must not make a pixel differ that nothing happened to.
        return PseudoAbnormal(torch.where(mask, from_unit_range(disturbed), image), mask)
