"""Anomaly maps of a few held-out slices in TensorBoard, to watch normal tissue go dark as training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter

from ..transforms import to_unit_range

__all__ = ["TensorBoardMaps"]


class TensorBoardMaps:
    """Handler: images and maps of the first slices of each validation, and the mean score of its first batch.

    MONAI's own image handler asks for a label image, which normal scans do not have. Maps are divided by ``full_scale``, the same for all epochs.

    Args:
        log_dir: TensorBoard's folder.
        full_scale: map value that is drawn white.
        count: how many slices.
    """

    def __init__(self, log_dir: str | Path, full_scale: float, count: int = 4):
        self.log_dir, self.full_scale, self.count = str(log_dir), float(full_scale), count
        self._first: dict[str, Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._keep)
        engine.add_event_handler(Events.COMPLETED, self)

    def _keep(self, engine: Engine) -> None:
        self._first = engine.state.output  # type: ignore[assignment]

    def __call__(self, engine: Engine) -> None:
        """Write the pictures of this validation."""
        if self._first is None:
            return
        with SummaryWriter(self.log_dir) as writer:
            epoch = engine.state.epoch
            writer.add_images("held_out/image", to_unit_range(self._first["image"][: self.count]).cpu(), epoch)
            writer.add_images("held_out/map", (self._first["pred"][: self.count] / self.full_scale).clamp(0, 1).cpu(), epoch)
            writer.add_scalar("held_out/score", self._first["score"].nanmean().item(), epoch)
        self._first = None
