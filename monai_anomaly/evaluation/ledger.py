"""Which series of a bulk inference are finished, and what is known of each: one file per series, written when all else about it is on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..data import Case, case_files
from ..differences import differences
from ..errors import DataError, OptionError
from ..files import file_sha256, safe_name, write_json
from ..ranks import from_rank_0
from ..versions import device_name, versions
from .scores import SliceScore

__all__ = ["Entry", "Ledger"]

logger = logging.getLogger(__name__)

WHAT = (
    "Series whose scores, pictures and volumes are complete; the tables are made from them. Started again, inference scores what is not here. "
    "Remove this folder to have everything scored anew."
)


class Entry(NamedTuple):
    """What is known of a finished case.

    Example:
        >>> Entry((SliceScore(0, 0, -1, 0.25, 0.0),)).refused
        ''
    """

    slices: tuple[SliceScore, ...]
    n_empty: int = 0
    """Slices that were not scored because they are empty."""
    refused: str = ""
    """Why the case could not be read."""
    findings: dict[str, Any] | None = None
    """Plain data of :class:`~monai_anomaly.writers.SaveFindings`."""


class _Told(NamedTuple):
    """What rank 0 found when the run started, the same on every rank."""

    sources: list[str]
    finished: frozenset[int]
    changed: dict[int, list[int]]


class Ledger:
    """The folder ``finished/`` of a bulk inference: ``run.json`` names model and options, ``series/<series>.json`` holds what is known of each finished case.

    It is the one truth about what is done: tables are made from it, and a run that was killed, or lost one of its processes, goes on with what is not in it.
    A case is finished for as long as its files have the same places, sizes and times, and the same label and mask; one that could not be read stays so
    until then. Under ``torchrun`` rank 0 looks, and all ranks go by what it saw. Nothing is written before :meth:`open`.

    Args:
        folder: the folder.
        cases: the cases that are to be scored; their series names are unique.
        model: the model file.
        settings: plain data of every option that can change a result.
        device: where it is scored; another one, and other versions, only give a warning.

    Attributes:
        finished: numbers of the cases that are finished.
        changed: of cases that were finished and whose files have changed, the slices that were scored then.

    Raises:
        OptionError: the folder holds results of another model or of other options.
        DataError: the folder or the model cannot be read.

    Example:
        >>> ledger = Ledger("results/finished", cases, "model.pt", {"pooling": "max"}, torch.device("cpu"))  # doctest: +SKIP
        >>> left = [k for k in range(len(cases)) if k not in ledger.finished]  # doctest: +SKIP
    """

    def __init__(
        self, folder: str | Path, cases: Sequence[Case], model: str | Path, settings: Mapping[str, Any], device: str | torch.device
    ):
        self.folder, self.cases = Path(folder), cases
        self._run = {"model_sha256": from_rank_0(lambda: _digest(Path(model))), "settings": dict(settings)}
        self._made_by = {"device": device_name(device), **versions()}
        self._sources, self.finished, self.changed = from_rank_0(self._look)

    def open(self) -> None:
        """A run begins: write what it is, if this is the first in the folder. One process does it for all."""
        if not self._run_file.exists():
            for path in self._series.glob("*.json"):  # nothing says what they are of
                path.unlink()
            write_json(self._run_file, {"what": WHAT, **self._run, "made_by": self._made_by})

    def write(self, number: int, entry: Entry) -> None:
        """A case is finished.

        Args:
            number: index into the cases.
            entry: what is known of it.
        """
        columns = {name: [getattr(row, name) for row in entry.slices] for name in SliceScore._fields[1:]}
        told = {"series": _name(self.cases[number], number), "source": self._sources[number], "slices": columns}
        write_json(self._file(number), told | {"empty_slices": entry.n_empty, "refused": entry.refused, "findings": entry.findings})

    def forget(self, number: int) -> None:
        """A case is not finished any more."""
        self._file(number).unlink(missing_ok=True)

    def read(self) -> dict[int, Entry]:
        """What is known of all finished cases, whichever process scored them, in the order of the cases."""
        entries = ((number, self._read(number)) for number in range(len(self.cases)))
        return {number: entry for number, (source, entry) in entries if source == self._sources[number]}

    def n_vanished(self) -> int:
        """How many finished series are not among the cases any more."""
        here = {self._file(number).name for number in range(len(self.cases))}
        return len({path.name for path in self._series.glob("*.json")} - here)

    def _look(self) -> _Told:
        sources = [_source(case) for case in self.cases]
        if not self._same_run():
            return _Told(sources, frozenset(), {})
        known = [self._read(number) for number in range(len(self.cases))]
        finished = frozenset(number for number, (source, _) in enumerate(known) if source == sources[number])
        changed = {
            number: [row.slice_index for row in entry.slices]
            for number, (source, entry) in enumerate(known)
            if source and source != sources[number]
        }
        return _Told(sources, finished, changed)

    def _same_run(self) -> bool:
        """Whether an earlier run with the same model and options began in this folder."""
        try:
            told = json.loads(self._run_file.read_bytes())
            earlier = _flat(told)
            made_by = dict(told["made_by"])
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{self._run_file} cannot be read ({type(error).__name__}); expected what an inference into this folder wrote: choose another "
                f"--output_dir, or remove {self.folder} to have everything scored anew."
            ) from error
        others = "; ".join(differences(earlier, _flat(json.loads(json.dumps(self._run)))))
        if others:
            raise OptionError(
                f"{self.folder.parent} holds results of another run ({others}); expected the same model and options, so that all results in a folder "
                f"belong together: choose another --output_dir, or remove {self.folder} to have everything scored anew."
            )
        others = "; ".join(differences(made_by, self._made_by))
        if others:
            logger.warning(
                "The results in %s were begun with other means (%s): scores may differ in the last digits.", self.folder.parent, others
            )
        return True

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def _series(self) -> Path:
        return self.folder / "series"

    def _file(self, number: int) -> Path:
        return self._series / f"{safe_name(_name(self.cases[number], number))}.json"

    def _read(self, number: int) -> tuple[str, Entry]:
        """State of the source files, and what is known; an empty text where nothing is."""
        path = self._file(number)
        try:
            told = json.loads(path.read_bytes())
            columns = [told["slices"][name] for name in SliceScore._fields[1:]]
            rows = tuple(
                SliceScore(number, int(k), int(label), _float(score), _float(mean)) for k, label, score, mean in zip(*columns, strict=True)
            )
            findings = None if told["findings"] is None else dict(told["findings"])
            return str(told["source"]), Entry(rows, int(told["empty_slices"]), str(told["refused"]), findings)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("%s cannot be read (%s): this series is scored again.", path, type(error).__name__)
        return "", Entry(())


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the results: model and options."""
    return {"model_sha256": run["model_sha256"], **run["settings"]}


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)  # JSON has no NaN


def _name(case: Case, number: int) -> str:
    return case.get("series", str(number))


def _source(case: Case) -> str:
    """SHA-256 over place, size and time of a case's files and over its label: it changes when one of them does, and names none."""
    told: list[Any] = [case.get("label")]
    for name in (*case_files(case), *([case["mask"]] if "mask" in case else [])):
        try:
            state = os.stat(name)
            told.append([name, state.st_size, state.st_mtime_ns])
        except (OSError, ValueError):
            told.append([name])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror or error}); expected a model file: name it with --model.") from error
