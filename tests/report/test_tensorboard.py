"""What TensorBoard is shown of a validation, read back from its own file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_anomaly.report import TensorBoardMaps
from monai_anomaly.transforms import to_unit_range

FULL_SCALE = 2.0


def batch(seed: int) -> dict[str, torch.Tensor]:
    """What the evaluator gives: maps from below 0 to above the full scale, and a slice without a score."""
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(3, generator=generator)
    score[1] = torch.nan
    return {
        "image": torch.randn(3, 3, 8, 6, generator=generator),
        "pred": 2 * torch.randn(3, 1, 8, 6, generator=generator) + 1,
        "score": score,
    }


def picture(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def side_by_side(images: torch.Tensor) -> np.ndarray:
    """``(n, 1 or 3, H, W)`` in [0, 1] as TensorBoard tiles them, in grey levels."""
    return (255 * torch.cat(list(images.expand(-1, 3, -1, -1)), dim=-1).permute(1, 2, 0)).numpy()


@pytest.fixture
def seen(tmp_path):
    """Validations after the epochs 5 and 10, of two batches each, with pictures of two slices."""
    for epoch in (5, 10):
        shown = TensorBoardMaps(tmp_path, FULL_SCALE, count=2)
        Evaluator(torch.device("cpu"), [batch(epoch), batch(0)], iteration_update=lambda engine, batch: batch, val_handlers=[shown]).run(
            epoch
        )
    return EventAccumulator(str(tmp_path), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_images_and_maps_are_those_of_the_first_slices(seen):
    for name, drawn in (
        ("image", lambda given: to_unit_range(given["image"])),
        ("map", lambda given: (given["pred"] / FULL_SCALE).clamp(0, 1)),
    ):
        found = {event.step: picture(event.encoded_image_string) for event in seen.Images(f"held_out/{name}")}
        assert set(found) == {5, 10}
        for epoch, shown in found.items():
            np.testing.assert_allclose(shown, side_by_side(drawn(batch(epoch))[:2]), rtol=0, atol=1)


def test_the_score_is_the_mean_of_the_slices_that_have_one(seen):
    told = {event.step: event.value for event in seen.Scalars("held_out/score")}
    assert told == pytest.approx({epoch: batch(epoch)["score"].nanmean().item() for epoch in (5, 10)})


def test_a_validation_without_slices_writes_nothing(tmp_path):
    engine = Engine(lambda engine, batch: batch)
    TensorBoardMaps(tmp_path, FULL_SCALE).attach(engine)
    engine.fire_event(Events.COMPLETED)
    assert not list(tmp_path.iterdir())
