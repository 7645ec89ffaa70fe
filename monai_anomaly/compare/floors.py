"""The floors of a comparison: what a system has to beat before its training was worth anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..data import split_calibration
from ..errors import AnomalyError
from ..files import write_json
from ..training import load_detector
from .nearest import nearest_neighbour
from .plan import Run
from .records import COMPLETED, FAILED, Record, read_metrics

__all__ = ["MEAN_INTENSITY", "NEAREST", "find_floors"]

MEAN_INTENSITY, NEAREST = "mean intensity", "nearest neighbour"

_PREPARED = ("image_size", "preset", "ct_window", "plane", "neighbours")


class _Neighbours(NamedTuple):
    """A nearest-neighbour floor that is to be found."""

    run: Run
    """Any finished run with this teacher and these images."""
    place: Path
    record: Record


def find_floors(finished: Sequence[tuple[Run, Record]], out: Path, announce: Callable[[str], object]) -> list[Record]:
    """Both floors of every data set, once for each way to prepare its images and, where a teacher is needed, for each teacher.

    The mean intensity's AUROC stands in every evaluation. Neighbours are looked for once and kept in ``floors/`` below the data set's folder.

    Args:
        finished: runs with their records.
        out: the comparison's folder.
        announce: told of each floor that has to be computed.

    Returns:
        Records like those of runs, with ``floor`` and ``conditions``: what tells floors of the same name apart.
    """
    records = {record["run"]: record for record in _mean_intensities(finished)}
    for floor in _neighbours(finished, out):
        if floor.record["run"] not in records:
            records[floor.record["run"]] = floor.record | _found(floor, announce)
    return list(records.values())


def _mean_intensities(finished: Sequence[tuple[Run, Record]]) -> Iterator[Record]:
    for run, record in finished:
        if record["mean_intensity_auroc"] is not None:
            conditions = {name: record["settings"].get(name) for name in _PREPARED}
            yield _record(MEAN_INTENSITY, run, conditions, None) | {"status": COMPLETED, "image_auroc": record["mean_intensity_auroc"]}


def _neighbours(finished: Sequence[tuple[Run, Record]], out: Path) -> Iterator[_Neighbours]:
    for run, record in finished:
        settings, teacher = record["settings"], record["teacher"]
        fraction = settings["calibration_fraction"]
        conditions = {name: settings.get(name) for name in _PREPARED}
        source = "untrained" if teacher["untrained"] else f"{teacher['source']} ({teacher['sha256'][:8]})"
        conditions |= {"backbone": teacher["name"], "teacher": source, "calibration_fraction": fraction}
        # An untrained teacher is another one with every seed, and so is the split.
        told = _record(NEAREST, run, conditions, run.seed if teacher["untrained"] or fraction else None)
        yield _Neighbours(run, out / told["run"], told)


def _record(floor: str, run: Run, conditions: dict[str, Any], seed: int | None) -> Record:
    digest = hashlib.sha256(json.dumps([floor, conditions, seed], sort_keys=True).encode()).hexdigest()[:8]
    place = f"{run.folder.parents[1].name}/floors/{floor.replace(' ', '_')}-{digest}"
    dataset = {"dataset": run.dataset.name, "fingerprint": run.dataset.fingerprint}
    return {"run": place, "floor": floor, **dataset, "conditions": conditions, "seed": seed, "reason": None}


def _found(floor: _Neighbours, announce: Callable[[str], object]) -> Record:
    kept = read_metrics(floor.place)
    if kept is None:
        announce(f"{NEAREST} on {floor.run.dataset.name}, teacher {floor.record['conditions']['teacher']}")
        try:
            kept = _compute(floor.run)
        except AnomalyError as error:
            return {"status": FAILED, "reason": str(error)}
        write_json(floor.place / "metrics.json", kept)
    return {"status": COMPLETED, **{f"image_{name}": kept["metrics"]["image"].get(name) for name in ("auroc", "ap")}}


def _compute(run: Run) -> dict[str, Any]:
    detector = load_detector(run.folder / "model.pt")
    cases, fraction = run.dataset.cases, detector.provenance["settings"]["calibration_fraction"]
    train, _ = split_calibration(cases.select(split="train"), fraction, run.seed)
    on_gpu = torch.cuda.is_available() and "cpu" not in str(run.flags.get("device"))
    metrics = nearest_neighbour(detector, train, cases.select(split="test"), "cuda:0" if on_gpu else "cpu")
    return {"complete": True, "metrics": {"image": metrics}}
