"""Engine output made by hand, with the fields of the slice samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from monai_anomaly.writers import MapGrid


class Scored:
    """What an evaluator says about one case: its maps, and which slices were scored."""

    def __init__(self, maps: Any, grid: MapGrid | None = None, scored: Sequence[bool] | None = None, refused: str = ""):
        self.maps = torch.as_tensor(np.asarray(maps), dtype=torch.float32)
        n = len(self.maps)
        flat = (*self.maps.shape[1:], n)
        self.grid = MapGrid(np.eye(4), flat, np.eye(4), flat, False) if grid is None else grid
        self.scored = [not refused] * n if scored is None else list(scored)
        self.refused = refused

    def samples(self, case: int) -> Iterator[dict[str, Any]]:
        """One dictionary per slice."""
        for k, (anomaly_map, scored) in enumerate(zip(self.maps, self.scored, strict=True)):
            yield {
                "image": torch.zeros(3, *anomaly_map.shape), "pred": anomaly_map[None], "score": anomaly_map.max() if scored else torch.tensor(torch.nan),
                "case": case, "slice_index": k, "refused": self.refused, "slice_affine": torch.as_tensor(self.grid.slice_affine),
                "slice_shape": torch.tensor(self.grid.slice_shape), "source_affine": torch.as_tensor(self.grid.source_affine),
                "source_shape": torch.tensor(self.grid.source_shape), "in_patient": self.grid.in_patient,
            }  # fmt: skip


def _batches(cases: Sequence[Scored], size: int) -> Iterator[dict[str, Any]]:
    samples = [sample for number, case in enumerate(cases) for sample in case.samples(number)]
    for start in range(0, len(samples), size):
        yield torch.utils.data.default_collate(samples[start : start + size])


@pytest.fixture
def scored() -> type[Scored]:
    """A case as it was scored."""
    return Scored


@pytest.fixture
def drive() -> Callable[..., None]:
    """Run a handler over cases, cut into batches."""

    def run(handler: Any, cases: Sequence[Scored], size: int = 4) -> None:
        engine = Engine(lambda engine, batch: batch)
        handler.attach(engine)
        engine.run(list(_batches(cases, size)))

    return run
