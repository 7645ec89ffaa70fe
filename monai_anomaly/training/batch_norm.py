"""Batch-normalisation statistics: of the weights that are kept, not of those that came before; of all processes, not of one."""

from __future__ import annotations

import functools
import logging
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from ..errors import OptionError
from ..networks import AnomalyDetector

__all__ = ["RefreshBatchNorm", "sync_batch_norm"]

logger = logging.getLogger(__name__)


def sync_batch_norm(detector: AnomalyDetector) -> AnomalyDetector:
    """Let the student's batch-normalisation layers take their statistics over the batches of all processes. The frozen teacher keeps its own.

    Args:
        detector: on a GPU; it is changed, its weights stay the same objects.

    Raises:
        OptionError: it is on a CPU.

    Example:
        >>> sync_batch_norm(detector.cuda())  # doctest: +SKIP
    """
    device = next(detector.parameters()).device
    if device.type == "cpu":
        raise OptionError(
            "sync_batch_norm is true and the device is a CPU; expected false there, because torch synchronises batch normalisation between GPUs only."
        )
    for name, part in detector.system.named_children():
        if part is not detector.system.teacher:
            setattr(detector.system, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))
    return detector


class RefreshBatchNorm:
    """Handler of the trainer: when training is over, measure the student's batch statistics anew in one pass over the training images.

    The running averages that evaluation uses lag behind the weights. After a short training with a high, constant learning rate they can be so stale that
    every normal image scores high and the ranking suffers; the mean over one pass with the final weights has no lag ("precise BN", Wu and Johnson,
    arXiv:2105.07576). The frozen teacher is not touched. (torch.optim.swa_utils.update_bn would reset the teacher too.)

    The order of the pass comes from the seed alone, so that a run that was interrupted ends in the same statistics. Each of several processes measures
    its own images; the means over all of them are kept.

    Args:
        detector: the detector (not its DDP wrapper).
        dataset: samples with ``image`` ``(3, H, W)``.
        batch_size: images per batch, as in training.
        seed: the run's seed.
    """

    def __init__(self, detector: AnomalyDetector, dataset: Dataset[Any], batch_size: int, seed: int):
        self.detector, self.dataset, self.batch_size, self.seed = detector, dataset, batch_size, seed

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, before calibration and saving."""
        engine.add_event_handler(Events.COMPLETED, self)

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Measure the statistics."""
        loader = DataLoader(self.dataset, batch_size=self.batch_size, shuffle=True, generator=torch.Generator().manual_seed(self.seed))
        self.detector.train()
        device = next(self.detector.parameters()).device
        # The teacher's layers stay in evaluation mode: those in training mode are the student's.
        norms = [module for module in self.detector.modules() if isinstance(module, _BatchNorm) and module.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            # Also where layers are synchronised in training: ranks have different numbers of batches here, and would wait for each other for ever.
            norm.forward = functools.partial(_BatchNorm.forward, norm)  # type: ignore[method-assign]
        for batch in loader:
            self.detector(batch["image"].to(device))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            del norm.forward
        _mean_over_ranks(norms, len(loader))
        logger.info("Measured the student's batch statistics anew with the final weights (%d layers).", len(norms))


def _mean_over_ranks(norms: list[_BatchNorm], n_batches: int) -> None:
    if idist.get_world_size() == 1:
        return
    total = idist.all_reduce(float(n_batches))
    for norm in norms:
        for mean in (norm.running_mean, norm.running_var):
            assert mean is not None
            mean.copy_(idist.all_reduce(mean * (n_batches / total)))  # type: ignore[operator,arg-type]
