"""Handler that writes pictures while an evaluator runs, so that memory stays bounded however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ..data import Case
from ..files import safe_name
from ..scoring import Calibration
from ..transforms import to_unit_range
from .heatmap import write_heatmap

__all__ = ["SaveHeatmaps"]


class SaveHeatmaps:
    """Handler: one PNG per scored slice, all on the model's one colour scale.

    Args:
        output_dir: folder for the pictures, named after series and slice.
        cases: the cases that are scored.
        value_range: (low, high) of the model's colour scale; see ``AnomalyDetector.colour_range``.
        calibration: plain data of the detector's calibration; with it captions carry p-values.
    """

    def __init__(
        self, output_dir: str | Path, cases: Sequence[Case], value_range: Sequence[float], calibration: dict[str, Any] | None = None
    ):
        self.output_dir, self.cases, self.value_range = Path(output_dir), cases, value_range
        self.calibration = Calibration.among(calibration, "image")

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the pictures of a batch."""
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        scored = output["score"].isfinite().cpu()
        images = to_unit_range(output["image"])[scored].cpu().numpy()
        maps = output["pred"][scored, 0].cpu().numpy()
        scores = output["score"][scored].tolist()
        p_values: Sequence[float | None] = [None] * len(scores) if self.calibration is None else self.calibration.p_value(scores).tolist()
        places = zip(output["case"][scored].tolist(), output["slice_index"][scored].tolist(), strict=True)
        for (case, slice_index), image, anomaly_map, score, p_value in zip(places, images, maps, scores, p_values, strict=True):
            series = self.cases[case].get("series", str(case))
            path = self._file(series, slice_index)
            write_heatmap(path, image, anomaly_map, self.value_range, series=series, slice_index=slice_index, score=score, p_value=p_value)

    def remove(self, case: Case, slices: Iterable[int]) -> None:
        """Remove the pictures of slices of a series, as far as there are any.

        Args:
            case: the case.
            slices: their numbers.
        """
        for slice_index in slices:
            self._file(case["series"], slice_index).unlink(missing_ok=True)

    def _file(self, series: str, slice_index: int) -> Path:
        return self.output_dir / f"{safe_name(series)}_{slice_index:04}.png"
