"""Scoring many series: each is recorded when it is finished, and the tables are made from the records."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ..data import Case, SliceDataset
from ..data.cases import case_refusal
from ..ranks import from_rank_0, gather
from .ledger import Entry, Ledger
from .scores import SliceScore, batch_rows
from .tables import ResultTables, Scored, flat_metrics

__all__ = ["RecordSeries"]

logger = logging.getLogger(__name__)

WRITING_SHARE = 0.05


class FindingsTable(Protocol):
    """Who has the findings of a case, and makes their table: :class:`~monai_anomaly.writers.SaveFindings`."""

    @abstractmethod
    def take(self, number: int) -> dict[str, Any] | None:
        """Hand over the findings of a case as plain data."""

    @abstractmethod
    def write(self, found: Sequence[tuple[Case, Mapping[str, Any]]]) -> None:
        """Make the table of all cases."""

    @abstractmethod
    def log(self, found: Sequence[tuple[Case, Mapping[str, Any]]]) -> None:
        """Say what was found."""


class SeriesFiles(Protocol):
    """Who writes files of a case, and can remove them, such as :class:`~monai_anomaly.writers.SaveHeatmaps`."""

    @abstractmethod
    def remove(self, case: Case, slices: Iterable[int]) -> None:
        """Remove what was written of a case and its slices."""


class RecordSeries:
    """Handler: put each case into the ledger when its last slice is scored, and make the tables from the ledger; attach it behind all other handlers.

    The tables are written when all are finished, and in between, less often than a twentieth of the time, so that a long run can be looked at. Under
    ``torchrun`` each rank records its own cases, and rank 0 waits for all of them and makes the tables. Memory holds the scores of one series, and while tables
    are made those of all, never a map.

    Args:
        ledger: what is finished.
        dataset: the slices of all cases, finished or not.
        tables: what is made in the end.
        findings: who finds regions in the maps.
        files: who writes other files of a series; those of a series that changed are removed before it is scored again;
            ``None`` is passed over.
    """

    def __init__(
        self, ledger: Ledger, dataset: SliceDataset, tables: ResultTables, findings: FindingsTable, files: Sequence[SeriesFiles | None]
    ):
        self.ledger, self.cases, self.tables, self.findings = ledger, dataset.cases, tables, findings
        self.files = [writer for writer in files if writer is not None]
        self._n_slices = Counter(case for case, _ in dataset.index)
        self._open: dict[int, _Open] = {}
        self._next_writing = 0.0

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self) -> None:
        self._open.clear()
        from_rank_0(self._prepare)

    def _prepare(self) -> None:
        """Once for all ranks, before any of them writes."""
        self.ledger.open()
        for number, slices in self.ledger.changed.items():
            for writer in self.files:
                writer.remove(self.cases[number], slices)
            self.ledger.forget(number)
        n_all, n_finished, n_vanished = len(self.cases), len(self.ledger.finished), self.ledger.n_vanished()
        if n_finished == n_all:
            logger.info("Everything is already scored: all %d series are finished in %s.", n_all, self.ledger.folder)
        elif n_finished:
            logger.info("%d of %d series are finished and are not scored again; %d are left.", n_finished, n_all, n_all - n_finished)
        if self.ledger.changed:
            logger.info("The files of %d series have changed since: they are scored again.", len(self.ledger.changed))
        if n_vanished:
            logger.info("%d finished series are not in the data any more: they are not in the tables, their other files stay.", n_vanished)
        if n_finished < n_all:
            self._write_in_between()  # tables of an earlier run would say that all is complete

    def __call__(self, engine: Engine) -> None:
        """Take over the scores of a batch."""
        for row, empty, reason in batch_rows(engine.state.output):  # type: ignore[arg-type]
            case = self._open.setdefault(row.case, _Open())
            case.add(row, empty, reason)
            if case.n_seen == self._n_slices[row.case]:
                self.ledger.write(row.case, self._open.pop(row.case).entry(self.findings.take(row.case)))
        if idist.get_rank() == 0 and time.monotonic() >= self._next_writing:
            self._write_in_between()

    def _finish(self, engine: Engine) -> None:
        gather(None)  # all have finished
        if idist.get_rank() == 0:
            found, scored, results = self._write()
            engine.state.metrics.update(flat_metrics(results))
            self.findings.log(found)
            self.tables.log(results, scored.refused)
            if scored.n_left:
                logger.warning(
                    "%d series are not to be seen in %s, though all processes have finished (a network folder may be late): start it once more.",
                    scored.n_left, self.ledger.folder,
                )  # fmt: skip

    def _write_in_between(self) -> None:
        started = time.monotonic()
        self._write()
        ended = time.monotonic()
        self._next_writing = ended + (ended - started) / WRITING_SHARE

    def _write(self) -> tuple[list[tuple[Case, Mapping[str, Any]]], Scored, dict[str, Any]]:
        entries = self.ledger.read()
        found: list[tuple[Case, Mapping[str, Any]]] = [
            (self.cases[number], entry.findings) for number, entry in entries.items() if entry.findings is not None
        ]
        scored = Scored(
            slices=[row for entry in entries.values() for row in entry.slices],
            n_empty=sum(entry.n_empty for entry in entries.values()),
            refused=[case_refusal(self.cases[number], entry.refused) for number, entry in entries.items() if entry.refused],
            findings={number: entry.findings["n_found"] for number, entry in entries.items() if entry.findings is not None},
            n_left=len(self.cases) - len(entries),
        )
        self.findings.write(found)
        return found, scored, self.tables.write(scored)


class _Open:
    """A case of which slices are still to come."""

    def __init__(self) -> None:
        self.n_seen = self.n_empty = 0
        self.slices: list[SliceScore] = []
        self.refused = ""

    def add(self, row: SliceScore, empty: bool, reason: str) -> None:
        self.n_seen += 1
        if reason:
            self.refused = reason
        elif empty:
            self.n_empty += 1
        else:
            self.slices.append(row)

    def entry(self, findings: dict[str, Any] | None) -> Entry:
        return Entry(tuple(self.slices), self.n_empty, self.refused, findings)
