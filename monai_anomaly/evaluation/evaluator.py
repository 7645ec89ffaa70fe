"""Scoring batches of slices, as a MONAI engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer

from ..networks import AnomalyDetector

__all__ = ["AnomalyEvaluator"]


class AnomalyEvaluator(SupervisedEvaluator):
    """MONAI's evaluator whose output is the batch with its anomaly maps and scores, kept whole on the device.

    The output holds everything of the batch, and ``pred``: the maps ``(B, 1, H, W)``; ``score``: one float per slice ``(B,)``, NaN for slices that
    are empty or could not be read.

    Args:
        device: where the network is.
        val_data_loader: batches of slice samples (:class:`monai_anomaly.data.SliceDataset`).
        network: the detector.
        inferer: MONAI inferer; default: the whole image at once.
        val_handlers: MONAI or ignite handlers.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Iterable[Any],
        network: AnomalyDetector,
        inferer: Inferer | None = None,
        val_handlers: Sequence[Any] | None = None,
    ):
        self.detector = network
        super().__init__(
            device=device, val_data_loader=val_data_loader, network=network, inferer=inferer, val_handlers=val_handlers, decollate=False
        )

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Score every batch; handlers start and finish also where there is none, because all is scored already or the share of a process is empty.

        Args:
            global_epoch: the epoch, during a training.
        """
        if self.state.epoch_length == 0:
            self.fire_event(Events.STARTED)
            self.fire_event(Events.COMPLETED)
        else:
            super().run(global_epoch)

    def _iteration(self, engine: AnomalyEvaluator, batchdata: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        image = batchdata["image"].to(engine.state.device, non_blocking=True)
        with engine.mode(engine.network):
            anomaly_map, score = engine.inferer(image, self.detector.predict)
        left_out = batchdata["empty"].bool() | torch.tensor([bool(reason) for reason in batchdata["refused"]])
        score = score.masked_fill(left_out.to(score.device), torch.nan)
        engine.state.output = {**batchdata, "image": image, "pred": anomaly_map, "score": score}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output
