"""A floor without any training: how far a slice lies from its nearest normal one, in features that the teacher has anyway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data import Case
from ..evaluation import SliceScore, score_metrics
from ..evaluation.scores import batch_rows
from ..inference import prepare_slices
from ..networks import AnomalyDetector, Teacher

__all__ = ["nearest_neighbour", "pooled_features"]

_BATCH = 16
_STAGES = 3


def nearest_neighbour(
    detector: AnomalyDetector, train: Sequence[Case], test: Sequence[Case], device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Score each test slice by its distance to the nearest training slice, and compare the scores with the labels.

    Features are those of the teacher's stages 1 to 3, which the systems learn to rebuild, each averaged over all positions and scaled to length 1. So a squared
    distance is twice the sum over the stages of 1 - cos: the systems' own measure, with the same weight for each stage. Dividing by standard deviations instead
    would take hundreds of them from the few dozen images that such sets have.

    Args:
        detector: gives the teacher and says how images are prepared; its student is not used.
        train: normal cases to remember.
        test: cases to score.
        device: where the teacher runs.

    Returns:
        What :func:`~monai_anomaly.evaluation.score_metrics` says of the slices: ``auroc`` and ``ap`` among others.

    Raises:
        DataError: nothing can be read.

    Example:
        >>> nearest_neighbour(load_detector("model.pt"), cases.select("train"), cases.select("test"))["auroc"]  # doctest: +SKIP
        0.81
    """
    teacher = _first_stages(detector.system.teacher).to(device)
    known = DataLoader(prepare_slices(detector, train, drop_empty=True, drop_marked=True), _BATCH)
    search = NearestNeighbors(n_neighbors=1).fit(np.concatenate([pooled_features(teacher, batch["image"].to(device)) for batch in known]))
    rows: list[SliceScore] = []
    for batch in DataLoader(prepare_slices(detector, test, keep=False), _BATCH):
        distance, _ = search.kneighbors(pooled_features(teacher, batch["image"].to(device)))
        found = batch_rows({**batch, "score": torch.from_numpy(distance[:, 0])})
        rows += [row for row, empty, refused in found if not (empty or refused)]
    return score_metrics(rows, None, None)


def pooled_features(teacher: Teacher, image: Tensor) -> NDArray[np.float64]:
    """Average each stage over all positions, scale to length 1, and put the stages one behind the other.

    Args:
        teacher: the teacher.
        image: ``(B, 3, H, W)``, teacher-normalised.

    Returns:
        ``(B, channels of all stages)``.

    Example:
        >>> teacher = Teacher("resnet18", weights="random", stages=3)
        >>> pooled_features(teacher, torch.zeros(2, 3, 32, 32)).shape
        (2, 448)
    """
    parts = [nn.functional.normalize(stage.mean(dim=(2, 3)).double(), dim=1) for stage in teacher(image)]
    return torch.cat(parts, dim=1).cpu().numpy()


def _first_stages(teacher: Teacher) -> Teacher:
    """The teacher without the stage that no map is made of."""
    kept = Teacher(teacher.name, weights=None, stages=_STAGES)
    kept.load_state_dict({key: value for key, value in teacher.state_dict().items() if key in kept.state_dict()})
    return kept
