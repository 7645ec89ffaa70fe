"""Handler that keeps the pages' few slices while an evaluator runs, and writes the page at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ignite.engine import Engine, Events
from torch import Tensor

from ..data import Case
from ..scoring import Calibration
from ..transforms import to_unit_range
from .contact_sheet import Tile, write_contact_sheet
from .drawing import sides

__all__ = ["SaveContactSheet"]

_COLUMNS = 5


class _Kept(NamedTuple):
    score: float
    case: int
    slice_index: int
    image: Tensor
    anomaly_map: Tensor
    mask: Tensor | None
    label: int | None
    spacing_mm: tuple[float, float] | None
    edges: str


class SaveContactSheet:
    """Handler: a page with the most anomalous slices and the most normal ones, one slice per series.

    Where slices lie in the patient, they bear its sides and a bar in mm. The slice of an abnormal case that is itself without a lesion says so: it is no miss
    among the most normal ones. Only the slices that may still come onto the page are held in memory.

    Args:
        path: the PNG.
        cases: the cases that are scored.
        value_range: (low, high) of the model's colour scale; see ``AnomalyDetector.colour_range``.
        calibration: plain data of the detector's calibration; with it captions carry p-values.
    """

    def __init__(self, path: str | Path, cases: Sequence[Case], value_range: Sequence[float], calibration: dict[str, Any] | None = None):
        self.path, self.cases, self.value_range = Path(path), cases, value_range
        self.calibration = Calibration.among(calibration, "image")
        self._reset()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: self._reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self)

    def _reset(self) -> None:
        self._high: list[_Kept] = []
        self._low: list[_Kept] = []

    def _add(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        images = to_unit_range(output["image"])
        rows = zip(output["score"].tolist(), output["case"].tolist(), output["slice_index"].tolist(), strict=True)
        for row, (score, case, slice_index) in enumerate(rows):
            if score != score:  # NaN: not scored
                continue
            bound_high = self._high[-1].score if len(self._high) == 2 * _COLUMNS else float("-inf")
            bound_low = self._low[-1].score if len(self._low) == _COLUMNS else float("inf")
            if score <= bound_high and score >= bound_low:
                continue
            # On a CPU a row is a view, which would hold its whole batch.
            mask = output["mask"][row].cpu().clone() if "mask" in output else None
            kept = _Kept(score, case, slice_index, images[row].cpu().clone(), output["pred"][row].cpu().clone(), mask, *_place(output, row))
            self._high = _best([*self._high, kept], 2 * _COLUMNS, sign=-1)
            self._low = _best([*self._low, kept], _COLUMNS, sign=1)

    def __call__(self, engine: Engine) -> None:
        """Write the page."""
        if not self._high:
            return
        shown = {(kept.case, kept.slice_index) for kept in self._high}
        low = [kept for kept in self._low if (kept.case, kept.slice_index) not in shown]
        rows = [("Most anomalous", self._high[:_COLUMNS]), ("", self._high[_COLUMNS:]), ("Most normal", low)]
        tiles = [(heading, [self._tile(kept) for kept in group]) for heading, group in rows]
        write_contact_sheet(self.path, tiles, self.value_range, "How far each slice differs from the normal scans, and where")

    def _tile(self, kept: _Kept) -> Tile:
        case = self.cases[kept.case]
        name = f"{case.get('series', kept.case)}"
        if case.get("label") == 1 and kept.label == 0:
            name += ": slice without lesion"
        elif "group" in case:
            name += f" ({case['group']})"
        p_value = None if self.calibration is None else float(self.calibration.p_value(kept.score))
        return Tile(kept.image, kept.anomaly_map, name, kept.slice_index, kept.score, p_value, kept.mask, kept.spacing_mm, kept.edges)


def _place(output: dict[str, Any], row: int) -> tuple[int | None, tuple[float, float] | None, str]:
    """The slice's own label, and the spacing of its pixels and its sides where these are the patient's."""
    label = int(output["label"][row]) if "label" in output else None
    if "in_patient" not in output or not output["in_patient"][row]:
        return label, None, ""
    affine = np.asarray(output["slice_affine"][row].cpu(), dtype=np.float64)
    full = output["slice_shape"][row].tolist()  # rows and columns before they were resized
    row_mm, column_mm = (float(np.linalg.norm(affine[:3, axis])) * full[axis] / int(output["image"].shape[2 + axis]) for axis in (0, 1))
    return label, (row_mm, column_mm), sides(affine)


def _best(rows: list[_Kept], count: int, sign: int) -> list[_Kept]:
    """The first of each case, best first."""
    best: dict[int, _Kept] = {}
    for kept in sorted(rows, key=lambda kept: sign * kept.score):
        best.setdefault(kept.case, kept)
    return list(best.values())[:count]
