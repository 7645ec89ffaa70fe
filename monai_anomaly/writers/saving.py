"""Handlers that write pictures and volumes while an evaluator runs, so that memory stays bounded however many series there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from ..data import Case
from ..files import safe_name
from ..scoring import Calibration
from ..transforms import to_unit_range
from .heatmap import write_heatmap
from .volume import write_map_volume

__all__ = ["SaveHeatmaps", "SaveVolumes"]


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
        self.calibration = Calibration.from_dict(calibration["image"]) if calibration and "image" in calibration else None

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
            path = self.output_dir / f"{safe_name(series)}_{slice_index:04}.png"
            write_heatmap(path, image, anomaly_map, self.value_range, series=series, slice_index=slice_index, score=score, p_value=p_value)


class SaveVolumes:
    """Handler: the anomaly map of each series of several slices as one NIfTI volume on the series' own grid.

    Slices arrive in order; a volume is written as soon as its last slice has come, so only one series is held. Empty slices hold NaN.

    Args:
        output_dir: folder for the volumes, named after the series.
        cases: the cases that are scored.
    """

    def __init__(self, output_dir: str | Path, cases: Sequence[Case]):
        self.output_dir, self.cases = Path(output_dir), cases
        self._reset()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda _: self._reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, lambda _: self._write())

    def _reset(self) -> None:
        self._case = -1
        self._maps: list[np.ndarray[Any, Any]] = []
        self._geometry: tuple[np.ndarray[Any, Any], tuple[int, int]] | None = None

    def __call__(self, engine: Engine) -> None:
        """Take over the maps of a batch."""
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        maps = output["pred"][:, 0].masked_fill(~output["score"].isfinite()[:, None, None], np.nan).cpu().numpy()
        for row, (case, refused) in enumerate(zip(output["case"].tolist(), output["refused"], strict=True)):
            if case != self._case:
                self._write()
                self._case = case
            if not refused:
                self._maps.append(maps[row])
                rows, columns = output["source_shape"][row].tolist()
                self._geometry = (output["affine"][row].numpy(), (rows, columns))

    def _write(self) -> None:
        if len(self._maps) > 1 and self._geometry is not None:
            series = safe_name(self.cases[self._case].get("series", str(self._case)))
            affine, shape = self._geometry
            write_map_volume(self.output_dir / f"{series}.nii.gz", np.stack(self._maps), affine, shape)
        self._reset()
