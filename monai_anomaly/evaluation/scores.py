"""What a run of the evaluator found: one row per slice, one per series, one per patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events

from ..data import Case, Refusal, case_patient
from ..data.cases import case_refusal
from ..scoring import Pooling

__all__ = ["PatientScore", "ScoreCollector", "SeriesScore", "SliceScore", "batch_rows", "pool_patients", "pool_series"]


class SliceScore(NamedTuple):
    """Score of one slice."""

    case: int
    """Index into the list of cases."""
    slice_index: int
    label: int
    """0 normal, 1 abnormal, -1 unknown."""
    score: float
    mean_intensity: float
    """Mean of the slice in the teacher's normalised units: the baseline that a detector has to beat."""


class PatientScore(NamedTuple):
    """Score of one patient, pooled over all slices."""

    patient: str
    label: int
    score: float
    mean_intensity: float
    n_slices: int
    worst: SliceScore
    """The patient's highest slice."""


class SeriesScore(NamedTuple):
    """Score of one series (one case), pooled over its slices."""

    case: int
    """Index into the list of cases."""
    patient: str
    label: int
    score: float
    n_slices: int
    worst: SliceScore
    """The series' highest slice."""


class ScoreCollector:
    """Handler: gather the rows of an :class:`~monai_anomaly.evaluation.AnomalyEvaluator`.

    Attributes:
        slices: the scored slices, in order.
        n_empty: slices left out because they are empty.
        refused: cases that could not be read, each once, with the reason.
    """

    def __init__(self, cases: Sequence[Case]):
        self.cases = cases
        self._reset()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: self._reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def _reset(self) -> None:
        self.slices: list[SliceScore] = []
        self.n_empty = 0
        self._refused: dict[int, str] = {}

    @property
    def refused(self) -> list[Refusal]:
        """Cases that could not be read."""
        return [case_refusal(self.cases[case], reason) for case, reason in self._refused.items()]

    def _add(self, engine: Engine) -> None:
        for row, empty, reason in batch_rows(engine.state.output):  # type: ignore[arg-type]
            if reason:
                self._refused.setdefault(row.case, reason)
            elif empty:
                self.n_empty += 1
            else:
                self.slices.append(row)


def batch_rows(output: Mapping[str, Any]) -> Iterator[tuple[SliceScore, bool, str]]:
    """Take apart what an :class:`~monai_anomaly.evaluation.AnomalyEvaluator` says about a batch.

    Args:
        output: its output.

    Returns:
        For each slice its row, whether it is empty, and why its case could not be read (or an empty text); the score counts only in a slice that is
        neither.

    Example:
        >>> rows = batch_rows(engine.state.output)  # doctest: +SKIP
    """
    scores = output["score"].tolist()
    means = output["image"].mean(dim=(1, 2, 3)).tolist()
    columns = (output["case"].tolist(), output["slice_index"].tolist(), output["label"].tolist(), scores, means)
    rows = (SliceScore(*row) for row in zip(*columns, strict=True))
    return zip(rows, output["empty"].tolist(), output["refused"], strict=True)


def pool_patients(slices: Sequence[SliceScore], cases: Sequence[Case], pooling: Pooling) -> list[PatientScore]:
    """Pool the slices of each patient, in the order in which patients first appear.

    Args:
        slices: scored slices.
        cases: the cases that ``SliceScore.case`` points into.
        pooling: rule from slice scores to the patient's score.

    Returns:
        One row per patient; abnormal when any of the patient's cases is, unknown when none of them says.

    Example:
        >>> rows = [SliceScore(0, 0, 0, 0.25, 0.0), SliceScore(0, 1, 1, 0.75, 0.5)]
        >>> pool_patients(rows, [{"patient": "a", "label": 1}], Pooling("max"))[0].score
        0.75
    """
    groups: dict[str, list[SliceScore]] = {}
    for row in slices:
        groups.setdefault(case_patient(cases[row.case]), []).append(row)
    return [
        PatientScore(
            patient=patient,
            label=_label(rows, cases),
            score=_pooled(rows, pooling),
            mean_intensity=float(np.mean([row.mean_intensity for row in rows])),
            n_slices=len(rows),
            worst=_worst(rows),
        )
        for patient, rows in groups.items()
    ]


def pool_series(slices: Sequence[SliceScore], cases: Sequence[Case], pooling: Pooling) -> list[SeriesScore]:
    """Pool the slices of each series, in the order in which series first appear.

    Args:
        slices: scored slices.
        cases: the cases that ``SliceScore.case`` points into, one per series.
        pooling: rule from slice scores to the series' score.

    Returns:
        One row per series; abnormal when the case or any of its slices is, unknown when neither says.

    Example:
        >>> rows = [SliceScore(0, 0, 0, 0.25, 0.0), SliceScore(1, 0, 0, 0.5, 0.0), SliceScore(0, 1, 0, 0.75, 0.5)]
        >>> [(row.case, row.score) for row in pool_series(rows, [{"patient": "a"}, {"patient": "a"}], Pooling("mean"))]
        [(0, 0.5), (1, 0.5)]
    """
    groups: dict[int, list[SliceScore]] = {}
    for row in slices:
        groups.setdefault(row.case, []).append(row)
    return [
        SeriesScore(case, case_patient(cases[case]), _label(rows, cases), _pooled(rows, pooling), len(rows), _worst(rows))
        for case, rows in groups.items()
    ]


def _label(rows: Sequence[SliceScore], cases: Sequence[Case]) -> int:
    return max(max(row.label, cases[row.case].get("label", -1)) for row in rows)


def _pooled(rows: Sequence[SliceScore], pooling: Pooling) -> float:
    return float(pooling(torch.tensor([[row.score for row in rows]], dtype=torch.float64)))


def _worst(rows: Sequence[SliceScore]) -> SliceScore:
    return max(rows, key=lambda row: row.score)
