"""What an evaluation leaves behind: tables, metrics, and a few lines to read."""

from __future__ import annotations

from ignite.engine import Engine, Events

from .pixels import PixelMetrics
from .scores import ScoreCollector
from .tables import ResultTables, Scored, flat_metrics

__all__ = ["WriteResults"]


class WriteResults:
    """Handler: keep the scores and maps of an evaluation in memory; when it is over, write its tables and metrics, pixel metrics among them.

    Attach it behind all other handlers: ``metrics.json`` is the last file that an evaluation writes, and says that it is complete.

    Args:
        tables: what is written.
    """

    def __init__(self, tables: ResultTables):
        self.tables = tables
        self.collector = ScoreCollector(tables.cases)
        self.pixels = PixelMetrics()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        self.collector.attach(engine)
        self.pixels.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write and log the results."""
        scored = Scored(self.collector.slices, self.collector.n_empty, self.collector.refused, pixel=self.pixels.compute())
        results = self.tables.write(scored)
        engine.state.metrics.update(flat_metrics(results))
        self.tables.log(results, scored.refused)
