"""The run record: what stands beside every figure."""

from __future__ import annotations

import functools
import logging
import operator
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from ..data import Case, CaseList, SliceDataset, case_patient
from ..differences import differences
from ..errors import DataError
from ..files import write_json
from ..networks import AnomalyDetector
from ..ranks import gather
from ..versions import device_name, versions

__all__ = ["RunRecord"]

logger = logging.getLogger(__name__)

_KEPT = ("epochs", "resumed", "device", "versions")


class RunRecord:
    """Handler of the trainer: write ``run.json`` when training starts, and again when it ends or fails.

    It holds the settings, versions, device, teacher (source and SHA-256), data fingerprint, seed, counts of files read and refused with reasons, of slices
    left out and of the intensity rules in use, the loss terms of each epoch, after which epochs the run was resumed, wall time (of all sittings together)
    and how it ended. Of several processes each counts its part, and rank 0 writes the sums.

    Args:
        path: where to write it.
        settings: every flag of the bundle with the value in use.
        identity: what :func:`monai_anomaly.training.identify` says of the run.
        detector: receives its ``provenance`` from the record.
        cases: what was found in the data folder.
        duplicates: groups of identical images on both sides of a split.
        train: the decoded training slices; of several processes each has its own.
        calibration: the decoded slices for calibration, rank 0's.
    """

    def __init__(
        self,
        path: str | Path,
        settings: Mapping[str, Any],
        identity: Mapping[str, Any],
        detector: AnomalyDetector,
        cases: CaseList,
        duplicates: Sequence[Sequence[Case]],
        train: SliceDataset,
        calibration: SliceDataset,
    ):
        self.duplicates, self.identity = duplicates, identity
        self.path, self.settings, self.detector, self.cases = Path(path), dict(settings), detector, cases
        self.train, self.calibration = train, calibration
        self.record: dict[str, Any] = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._started = self._earlier = 0.0
        self._writes = idist.get_rank() == 0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handler that saves the model: a run is complete when its model is on disk."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iterate)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        self._started = time.monotonic()
        teacher = self.detector.system.teacher
        counts = {"train": _total(gather(_count(self.train))), "calibration": _total([_count(self.calibration)])}
        refused = [*self.cases.refused, *(refusal for count in counts.values() for refusal in count.pop("refused"))]
        self.record = {
            "status": "training",
            "settings": self.settings,
            "versions": versions(),
            "processes": self.identity["processes"],
            "device": device_name(getattr(engine.state, "device", "cpu")),
            "teacher": {**teacher.config, "untrained": teacher.untrained},
            "data": {
                "fingerprint": self.identity["data"],
                "cases_fingerprint": self.identity["cases"],
                "files_found": self.cases.found,
                "identical_images_across_splits": [[case.get("series", "") for case in group] for group in self.duplicates],
                "refused": [refusal._asdict() for refusal in refused],
                **counts,
            },
            "epochs": [],
            "resumed": [],
        }
        # A model is handed on: the folders of the machine that trained it stay out of it.
        self.detector.provenance = {
            "settings": {name: _last_part(value) for name, value in self.settings.items()},
            "versions": self.record["versions"],
            "data_fingerprint": self.identity["data"],
            "cases_fingerprint": self.identity["cases"],
            "processes": self.identity["processes"],
            "epochs": engine.state.max_epochs,
        }
        self._write()

    def _iterate(self, engine: Engine) -> None:
        for name, value in engine.state.output.items():  # type: ignore[union-attr]
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value

    def _epoch(self, engine: Engine) -> None:
        totals = {name: float(idist.all_reduce(total)) for name, total in self._sums.items()}  # type: ignore[arg-type]
        means = {name: total / idist.get_world_size() / (engine.state.epoch_length or 1) for name, total in totals.items()}
        self._sums.clear()
        self.record["epochs"].append(means)

    def _complete(self, engine: Engine) -> None:
        self._finish("completed")

    def _fail(self, engine: Engine, error: BaseException) -> None:
        try:
            self._finish(f"ended by {type(error).__name__}")
        except DataError as second:  # a full disk takes the record, too
            logger.error("%s", second)
        raise error

    def _finish(self, status: str) -> None:
        self.record |= {"status": status, "wall_time_s": self._wall_time()}
        self._write()

    def _wall_time(self) -> float:
        return round(self._earlier + time.monotonic() - self._started, 1)

    def _write(self) -> None:
        if self._writes:
            write_json(self.path, self.record)

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on needs: the loss terms of the epochs so far, the time they took, and where they were computed."""
        return {**{name: self.record[name] for name in _KEPT}, "wall_time_s": self._wall_time()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`, once the run has started. Where it is computed now may differ from then: that is said, and recorded."""
        then, now = ({"device": place["device"], **place["versions"]} for place in (state, self.record))
        changed = {name: [then.get(name), now.get(name)] for name in sorted({*then, *now}) if then.get(name) != now.get(name)}
        if changed and self._writes:
            logger.warning(
                "The run goes on elsewhere than it came from, so that its numbers can differ in their last digits from those of a run that was not "
                "interrupted: %s.", "; ".join(differences(then, now)),
            )  # fmt: skip
        self._earlier = float(state["wall_time_s"])
        self.record["epochs"] = list(state["epochs"])
        self.record["resumed"] = [*state["resumed"], {"after_epoch": len(state["epochs"]), "changed": changed}]
        self._write()


def _count(dataset: SliceDataset) -> dict[str, Any]:
    return {
        "cases": len(dataset.cases),
        "patients": sorted({case_patient(case) for case in dataset.cases}),
        "slices": len(dataset),
        "empty_slices_left_out": dataset.n_empty,
        "marked_slices_left_out": dataset.n_marked,
        "intensity": Counter(dataset.intensity),
        "cases_from_cache": dataset.n_cached,
        "refused": list(dataset.refused),
    }


def _total(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum over the ranks, of numbers, lists and counters alike."""
    total = {name: functools.reduce(operator.add, (part[name] for part in parts)) for name in parts[0]}
    return total | {"patients": len(set(total["patients"])), "intensity": dict(sorted(total["intensity"].items()))}


def _last_part(value: Any) -> Any:
    return Path(value).name if isinstance(value, str) and ("/" in value or "\\" in value) else value
