"""Whether an exported file agrees with its model: the gate that every export has to pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from ..data import SliceDataset
from ..errors import ExportError
from ..evaluation import AnomalyEvaluator
from ..networks import AnomalyDetector
from ..training import ProgressBar
from .formats import Runner

__all__ = ["MAP_TOLERANCE", "SCORE_ROUNDING", "Parity", "ParityCheck", "compare", "leave_one_out_p_values"]

MAP_TOLERANCE = 1e-4
"""The largest difference of any pixel of any map."""

SCORE_ROUNDING = 1e-5
"""Scores closer than this are the same score: those of one model on the same scans differ by some 1e-7 from one batch size or runtime to another."""

_BATCH = 16


class Parity(NamedTuple):
    """How far an exported file is from its model."""

    n_slices: int
    map_difference: float
    """The largest difference of any pixel; NaN when any pixel of either is."""
    score_difference: float
    n_other_p: int
    """Slices whose p-value is another one."""
    batch_sizes: tuple[int, ...]
    """Those in which the exported file was run."""

    def check(self) -> None:
        """Let pass what agrees.

        Raises:
            ExportError: it does not; with the measured difference.
        """
        if self.map_difference <= MAP_TOLERANCE and self.n_other_p == 0:
            return
        raise ExportError(
            f"The exported file does not agree with its model: on {self.n_slices} held-out normal slices the largest difference of a map is "
            f"{self.map_difference:.2g} and of a score {self.score_difference:.2g}, and {self.n_other_p} slices have another p-value; expected at most "
            f"{MAP_TOLERANCE:g} and the same p-values: no file was written. Export in another format, or with the versions in constraints.txt."
        )


class ParityCheck:
    """Handler of an :class:`~monai_anomaly.evaluation.AnomalyEvaluator`: run the exported file on the images that the model has just scored.

    The very first image goes through the exported file alone and the rest of its batch at once, so that with the last batch, which is seldom full, a batch
    size that was baked in, or a statistic that is taken over the batch, shows.

    Args:
        runner: the exported file.
        calibration: the model's calibration scores of these very slices.
    """

    def __init__(self, runner: Runner, calibration: Sequence[float]):
        self.runner, self.calibration = runner, calibration
        self._maps: list[float] = []
        self._scores: list[tuple[Tensor, Tensor]] = []
        self._sizes: set[int] = set()

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._compare)

    def _compare(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        image = output["image"]
        pieces = [image] if self._sizes else [piece for piece in (image[:1], image[1:]) if len(piece)]
        results = [self.runner(piece) for piece in pieces]
        self._sizes |= {len(piece) for piece in pieces}
        maps, scores = (torch.cat(parts) for parts in zip(*results, strict=True))
        self._maps.append(float((maps - output["pred"]).abs().max()))  # torch's max hands a NaN on
        self._scores.append((output["score"], scores))

    @property
    def parity(self) -> Parity:
        """What was found."""
        model, exported = (torch.cat(scores).double().numpy() for scores in zip(*self._scores, strict=True))
        p_values = [leave_one_out_p_values(scores, model, self.calibration) for scores in (model, exported)]
        return Parity(
            n_slices=len(model),
            map_difference=float(np.max(self._maps)),
            score_difference=float(np.abs(model - exported).max()),
            n_other_p=int((p_values[0] != p_values[1]).sum()),
            batch_sizes=tuple(sorted(self._sizes)),
        )


def leave_one_out_p_values(scores: ArrayLike, model_scores: ArrayLike, calibration: ArrayLike) -> NDArray[np.float64]:
    r"""P-values of the calibration slices themselves, each with its own score left out of the calibration.

    For slice :math:`i` of :math:`n` with the model's score :math:`m_i`, :math:`p_i(s) = (1 + \#\{j \ne i: c_j \ge s \text{ or } |c_j - m_i| \le \rho\}) / n`:
    :class:`~monai_anomaly.scoring.Calibration`'s p-value with the other :math:`n - 1` scores, where those closer than :math:`\rho` =
    :data:`SCORE_ROUNDING` to the model's score count as ties, which count against the slice. Without that a difference in the last digit could move a slice
    past its neighbour. A slice's own calibration score is the one of the same rank. A score that is not a number has no p-value: NaN.

    Args:
        scores: the scores :math:`s_i`, of the model or of an export.
        model_scores: the model's scores :math:`m_i` of the same slices, in the same order.
        calibration: the :math:`n` calibration scores, in any order.

    Example:
        >>> leave_one_out_p_values([0.1, 0.4, 0.2], [0.1, 0.2, 0.3], [0.3, 0.1, 0.2])
        array([1.        , 0.33333333, 0.66666667])
    """
    new, model, known = (np.asarray(values, dtype=np.float64) for values in (scores, model_scores, calibration))
    known = np.sort(known)
    ranks = np.empty(len(model), dtype=np.intp)
    ranks[np.argsort(model, kind="stable")] = np.arange(len(model))
    p_values = np.full(len(model), np.nan)
    for i, (score, reference, own) in enumerate(zip(new, model, ranks, strict=True)):
        if np.isfinite(score):
            others = np.delete(known, own)
            p_values[i] = (1 + ((others >= score) | (np.abs(others - reference) <= SCORE_ROUNDING)).sum()) / len(known)
    return p_values


def compare(detector: AnomalyDetector, runner: Runner, slices: SliceDataset) -> Parity:
    """Score the slices with the model and with its export.

    Args:
        detector: the model, on the CPU.
        runner: the exported file, read back.
        slices: the slices that the model was calibrated on.

    Raises:
        ExportError: the file cannot take them.
    """
    assert detector.calibration is not None
    check = ParityCheck(runner, detector.calibration["image"]["scores"])
    loader = DataLoader(slices, batch_size=_BATCH)
    AnomalyEvaluator(torch.device("cpu"), loader, detector, val_handlers=[check, ProgressBar("comparing")]).run()
    return check.parity
