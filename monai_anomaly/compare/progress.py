"""One line for each run: which of how many, how it ended, time gone and time left."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from .plan import Run
from .records import FAILED, Record

__all__ = ["Progress", "time_left"]

Kind = tuple[str, str, bool]


def kind_of(run: Run) -> Kind:
    """What the time that a run takes depends on: data set, trained system, and whether its model is only evaluated anew."""
    return run.dataset.name, str(run.spec.trained), bool(run.spec.scoring)


def time_left(taken: Sequence[tuple[Kind, float]], ahead: Sequence[Kind]) -> float | None:
    """Estimate how long the runs ahead will take, each as long as those like it took: same data set and system, else the same system, else any of its sort.

    Args:
        taken: what was run, and for how many seconds.
        ahead: what is still to be run.

    Returns:
        Seconds, or ``None`` as long as nothing was run that could be compared.

    Example:
        >>> a, b = ("head_ct", "skipts", False), ("busi", "skipts", False)
        >>> time_left([(a, 60.0), (a, 80.0), (b, 10.0)], [a, b])
        80.0
    """
    expected = [_expected(taken, kind) for kind in ahead]
    known = [seconds for seconds in expected if seconds is not None]
    return sum(known) if known or not ahead else None


def _expected(taken: Sequence[tuple[Kind, float]], kind: Kind) -> float | None:
    for alike in (slice(0, 3), slice(1, 3), slice(2, 3)):
        found = [seconds for other, seconds in taken if other[alike] == kind[alike]]
        if found:
            return statistics.mean(found)
    return None


class Progress:
    """Lines on standard error.

    Args:
        runs: all of them, in their order.
    """

    def __init__(self, runs: Sequence[Run]):
        self.runs, self.taken = list(runs), list[tuple[Kind, float]]()
        self._begun = self._started = time.monotonic()

    def start(self, number: int) -> None:
        """Say which run is going on; numbers start at 1."""
        self._started = time.monotonic()
        width = len(str(len(self.runs)))
        _write(f"[{number:{width}}/{len(self.runs)}] {self.runs[number - 1].name} ... ")

    def finish(self, number: int, record: Record, before: bool) -> None:
        """Say how it ended.

        Args:
            number: the run's, from 1.
            record: what is known of it.
            before: it was finished before this command.
        """
        auroc = record.get("image_auroc")
        how = (
            f"FAILED: {record['reason']}"
            if record["status"] == FAILED
            else "no AUROC"
            if auroc is None
            else f"image AUROC {100 * auroc:.1f} %"
        )
        if before:
            _write(f"{how}, finished before\n")
            return
        now = time.monotonic()
        if record["status"] != FAILED:
            self.taken.append((kind_of(self.runs[number - 1]), now - self._started))
        left = time_left(self.taken, [kind_of(run) for run in self.runs[number:]])
        about = "time left not known yet" if left is None else f"about {_clock(left)} left"
        _write(f"{how} (this run {_clock(now - self._started)}, all so far {_clock(now - self._begun)}, {about})\n")

    def say(self, text: str) -> None:
        """Say something on a line of its own."""
        _write(f"{text}\n")


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _clock(seconds: float) -> str:
    return tqdm.format_interval(seconds)
