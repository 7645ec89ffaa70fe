"""A comparison from its command line to its table: what is finished stays, what is not goes on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..files import write_whole
from ..training.resuming import CHECKPOINT
from .floors import find_floors
from .lock import hold_folder
from .plan import Run, plan_runs, read_data_sets
from .process import run_config
from .progress import Progress
from .records import COMPLETED, Record, read_metrics, run_record, write_records
from .table import comparison_table

__all__ = ["Comparison", "compare"]

LOG, TABLE = "run.log", "table.md"


class Comparison(NamedTuple):
    """What came of a comparison."""

    table: str
    """Markdown."""
    n_failed: int
    """Runs that failed."""


def compare(
    dataset_dirs: Sequence[str | Path],
    systems: Sequence[str],
    seeds: int = 3,
    epochs: int = 30,
    shared: Mapping[str, Any] | None = None,
    out: str | Path = "runs/compare",
    command: str = "",
) -> Comparison:
    """Train and evaluate systems on data sets under one budget, and put the figures beside the floors.

    Everything that can be refused is refused before the first run. Each run is the bundle's own command in a process of its own; what was finished before
    is not repeated, what was interrupted goes on, what failed is tried again and does not end the others.

    Args:
        dataset_dirs: data sets; see :func:`~monai_anomaly.data.find_cases`.
        systems: see :func:`~monai_anomaly.compare.parse_spec`.
        seeds: how many, from 42 in steps of 100.
        epochs: of each training; the last one counts.
        shared: further flags of train.json for every run.
        out: the comparison's folder: a folder for each run, ``runs.jsonl`` and ``table.md``.
        command: the command line, for the table.

    Returns:
        The table, and how many runs failed.

    Raises:
        AnomalyError: the comparison cannot be begun; see :func:`~monai_anomaly.compare.plan.plan_runs` and ``read_data_sets``.

    Example:
        >>> print(compare(["head_ct"], ["skipts", "skipts:beta=0"]).table)  # doctest: +SKIP
    """
    out = Path(out).expanduser().absolute()
    runs = plan_runs(read_data_sets(dataset_dirs), systems, seeds, epochs, shared or {}, out)
    progress, records = Progress(runs), list[Record]()
    with hold_folder(out) as held, _terminated_as_interrupted():
        failures: dict[Path, str] = {}
        for number, run in enumerate(runs, start=1):
            progress.start(number)
            before = read_metrics(run.evaluation) is not None
            records.append(run_record(run, out, None if before else _complete(run, failures, held)))
            if records[-1]["status"] == COMPLETED:
                # More epochs would be another folder, so that nothing goes on from it any more; it is as large as the model.
                (run.folder / CHECKPOINT).unlink(missing_ok=True)
            write_records(out, records)
            progress.finish(number, records[-1], before)
        finished = [(run, record) for run, record in zip(runs, records, strict=True) if record["status"] == COMPLETED]
        floors = find_floors(finished, out, progress.say)
        write_records(out, [*records, *floors])
        table = comparison_table(records, floors, command)
        progress.say(f"Table: {write_whole(out / TABLE, table.encode())}")
    return Comparison(table, len(records) - len(finished))


def _complete(run: Run, failures: dict[Path, str], held: Sequence[int]) -> str | None:
    """Train, unless that is done, and evaluate; says why it failed. Several runs can need the same training, which is tried once."""
    log = run.folder / LOG
    if run.folder in failures:
        return failures[run.folder]
    training = run.training
    if read_metrics(training.evaluation) is None:
        reason = run_config(run.spec.configs, run.flags, log, held) or _without_metrics(training, log)
        if reason:
            failures[run.folder] = reason
            return reason
    if run.spec.scoring:
        return run_config([run.spec.folder / "evaluate.json"], run.evaluate_flags, log, held) or _without_metrics(run, log)
    return None


def _without_metrics(run: Run, log: Path) -> str | None:
    return f"It ended without metrics; its log is {log}." if read_metrics(run.evaluation) is None else None


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """``kill`` ends the run that is going on, as Ctrl-C does, and not this process alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
