"""From batches of slices to whole series, one at a time, for all who write something about a series."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events

from ..data import Case
from ..errors import OptionError
from ..scoring import smooth_through_slices
from .series_map import MapGrid, SeriesMap

__all__ = ["AssembleSeries", "SeriesWriter"]

logger = logging.getLogger(__name__)


class SeriesWriter(Protocol):
    """What :class:`AssembleSeries` hands each finished series to.

    Example:
        >>> class Count(SeriesWriter):
        ...     n = 0
        ...     def add(self, series):
        ...         self.n += 1
    """

    def start(self) -> None:
        """A run begins."""

    @abstractmethod
    def add(self, series: SeriesMap) -> None:
        """A series is complete.

        Args:
            series: its map.
        """

    def finish(self) -> None:
        """The run is over."""


class AssembleSeries:
    """Handler: put the maps of a series together and hand them on, so that every writer gets the same volume and it is made only once.

    A series is handed on with its last slice; only one is held, with 4 x h x w bytes a slice until then. Slices that were not scored hold NaN; cases that
    could not be read are passed over.

    Args:
        cases: the cases that are scored.
        writers: who gets each series, in this order; ``None`` (a part of a config that is turned off) is passed over.
        smoothing_mm: standard deviation of a Gaussian along the slice axis, for what lies in the patient; 0: none. It acts on volumes and findings; slice
            scores and heat maps are those of the unsmoothed slices.
        scratch_dir: where a volume of more than 1 GiB lies while it is worked on; best on the disk of the results.

    Raises:
        OptionError: a negative ``smoothing_mm``; during the run, slices that do not come series after series.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        writers: Sequence[SeriesWriter | None],
        smoothing_mm: float = 0.0,
        scratch_dir: str | Path | None = None,
    ):
        if not 0 <= smoothing_mm < float("inf"):
            raise OptionError(f"smoothing_mm is {smoothing_mm}; expected millimetres from 0 (no smoothing) upwards.")
        self.cases, self.smoothing_mm, self.scratch_dir = cases, float(smoothing_mm), scratch_dir
        self.writers = [writer for writer in writers if writer is not None]
        self._open: _Series | None = None
        self._done: set[int] = set()

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self) -> None:
        self._open = None
        self._done.clear()
        for writer in self.writers:
            writer.start()

    def __call__(self, engine: Engine) -> None:
        """Take over the maps of a batch."""
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        maps = output["pred"][:, 0].masked_fill(~output["score"].isfinite()[:, None, None], torch.nan).float().cpu()
        places = zip(output["case"].tolist(), output["slice_index"].tolist(), output["refused"], strict=True)
        for row, (number, slice_index, refused) in enumerate(places):
            if self._open is not None and self._open.number != number:
                self._close()
            if refused:
                continue
            if self._open is None:
                self._open = self._begin(number, output, row, maps.shape[1:])
            self._open.maps[slice_index] = maps[row]
            self._open.n_slices += 1
            if self._open.n_slices == len(self._open.maps):
                self._close()

    def _begin(self, number: int, output: dict[str, Any], row: int, size: Sequence[int]) -> _Series:
        if number in self._done:
            raise OptionError(
                f"The slices of series {_name(self.cases[number], number)} do not come one after another; expected them so: use a loader without shuffling."
            )
        self._done.add(number)
        affines = (np.asarray(output[key][row], dtype=np.float64) for key in ("slice_affine", "source_affine"))
        shapes = (tuple(output[key][row].tolist()) for key in ("slice_shape", "source_shape"))
        (slice_affine, source_affine), (slice_shape, source_shape) = affines, shapes
        grid = MapGrid(slice_affine, slice_shape, source_affine, source_shape, bool(output["in_patient"][row]))
        return _Series(number, grid, torch.full((slice_shape[2], *size), torch.nan))

    def _close(self) -> None:
        series, self._open = self._open, None
        if series is None:
            return
        case, grid = self.cases[series.number], series.grid
        if series.n_slices < len(series.maps):
            logger.warning(
                "Only %d of the %d slices of series %s were scored: the others are empty in its map.",
                series.n_slices, len(series.maps), _name(case, series.number),
            )  # fmt: skip
        smoothing_mm = self.smoothing_mm if grid.in_patient else 0.0
        if smoothing_mm:
            smooth_through_slices(series.maps, float(np.linalg.norm(grid.slice_affine[:3, 2])), smoothing_mm)
        volume = SeriesMap(series.number, case, series.maps, grid, smoothing_mm, self.scratch_dir)
        for writer in self.writers:
            writer.add(volume)

    def _finish(self) -> None:
        self._close()
        for writer in self.writers:
            writer.finish()


@dataclass
class _Series:
    """A series of which slices are still to come."""

    number: int
    grid: MapGrid
    maps: torch.Tensor
    n_slices: int = 0


def _name(case: Case, number: int) -> str:
    return case.get("series", str(number))
