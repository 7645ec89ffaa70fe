"""One progress bar for a whole run, with the loss and the time left."""

from __future__ import annotations

import sys
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

__all__ = ["ProgressBar"]


class ProgressBar:
    """Handler: one bar over all iterations of all epochs (ignite's own bar starts anew each epoch and cannot tell when the run ends).

    Args:
        description: what is going on, such as ``"training"``.
    """

    def __init__(self, description: str):
        self.description = description
        self._bar: tqdm[Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._stop)

    def _start(self, engine: Engine) -> None:
        # Not when the run starts: it may go on from a checkpoint that another handler reads then.
        if self._bar is not None:
            return
        total = (engine.state.max_epochs or 1) * (engine.state.epoch_length or 0)
        # In a log file one line every ten seconds is enough.
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=total, desc=self.description, unit="batch", mininterval=interval, initial=engine.state.iteration, dynamic_ncols=True
        )

    def _advance(self, engine: Engine) -> None:
        if self._bar is None:
            return
        output = engine.state.output
        loss = output.get("loss") if isinstance(output, dict) else None
        # Asking a tensor for its value waits for the device: only as often as the bar is drawn anyway.
        if loss is not None and self._bar.n % 10 == 0:
            self._bar.set_postfix({"epoch": f"{engine.state.epoch}/{engine.state.max_epochs}", "loss": f"{float(loss):.4f}"}, refresh=False)
        self._bar.update()

    def _stop(self, engine: Engine) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
