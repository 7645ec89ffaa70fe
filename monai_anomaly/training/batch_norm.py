"""Batch-normalisation statistics of the weights that are kept, not of those that came before."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["RefreshBatchNorm"]

logger = logging.getLogger(__name__)


class RefreshBatchNorm:
    """Handler of the trainer: when training is over, measure the student's batch statistics anew in one pass over the training images.

    The running averages that evaluation uses lag behind the weights. After a short training with a high, constant learning rate they can be so stale that
    every normal image scores high and the ranking suffers; the mean over one pass with the final weights has no lag ("precise BN", Wu and Johnson,
    arXiv:2105.07576). The frozen teacher is not touched. (torch.optim.swa_utils.update_bn would reset the teacher too.)

    Args:
        network: the detector in training.
        data_loader: batches with ``image`` ``(B, 3, H, W)``.
    """

    def __init__(self, network: nn.Module, data_loader: Iterable[Any]):
        self.network, self.data_loader = network, data_loader

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, before calibration and saving."""
        engine.add_event_handler(Events.COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Measure the statistics."""
        self.network.train()
        device = next(self.network.parameters()).device
        # The teacher's layers stay in evaluation mode: those in training mode are the student's.
        norms = [module for module in self.network.modules() if isinstance(module, _BatchNorm) and module.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
        for batch in self.data_loader:
            self.network(batch["image"].to(device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logger.info("Measured the student's batch statistics anew with the final weights (%d layers).", len(norms))
