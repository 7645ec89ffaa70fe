"""For ``monaibundle``, the app that MONAI Label brings along for any bundle: what its inference does with ours.

It takes ``pre_transforms`` and ``post_transforms`` of ``inference.json``, runs the network on one input between them, and writes the mask itself. A study is
many inputs, and a mask needs the calibration: so the verdict is made first, as everywhere else, and the network then gets an empty picture, whose map is
dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor

from ..errors import CheckpointError, DataError
from ..inference import StudyDetector, Verdict
from ..writers.volume import is_orthogonal
from .refusals import answering
from .response import answer, checked_extension, checked_rate
from .viewer_grid import viewer_affine

__all__ = ["JudgeStudyd", "LabelFromVerdictd"]

EMPTY = (3, 32, 32)
"""The smallest picture that every network here takes."""


class JudgeStudyd:
    """Before the network: judge the study whose path is under ``image``, and put an empty picture there.

    Args:
        bundle_root: the bundle's folder.
    """

    def __init__(self, bundle_root: str | Path):
        self.bundle_root = Path(bundle_root)
        self._detectors: dict[tuple[Path, str], StudyDetector] = {}

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Judge.

        Args:
            data: the request; ``false_alarm_rate``, ``device`` and ``model_filename`` (one of those in ``models/``) are taken from it.

        Returns:
            The same, with ``verdict``.

        Raises:
            RequestError: the study cannot be judged, with the reason.
        """
        with answering():
            extension = checked_extension(data)
            verdict = self._detector(data).judge(data["image"], checked_rate(data))
        return {**data, "image": torch.zeros(EMPTY), "verdict": verdict, "result_extension": extension}

    def _detector(self, data: Mapping[str, Any]) -> StudyDetector:
        named = data.get("model_filename") or "model.pt"
        name = named if isinstance(named, str) else named[0]  # all there are, if the request names none
        model = self.bundle_root / "models" / name
        if Path(name).name != name or not model.is_file():
            raise CheckpointError(
                f"There is no model {name!r} in {model.parent}; expected one of its files: leave model_filename out for model.pt."
            )
        key = model, str(data["device"])
        if key not in self._detectors:
            self._detectors[key] = StudyDetector(self.bundle_root, model, data["device"])
        return self._detectors[key]


class LabelFromVerdictd:
    """After the network: the mask under ``pred``, on the study's own grid, and what the answer's JSON is to say under ``result``."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace what the network said of the empty picture.

        Args:
            data: with ``verdict``.

        Returns:
            The same, with ``pred`` (columns, rows, slices) and ``result``.

        Raises:
            RequestError: the model is not calibrated, or the volume is sheared.
        """
        verdict: Verdict = data["verdict"]
        with answering():
            grid = verdict.map.grid
            affine = viewer_affine(grid.source_affine, grid.in_patient)
            if not is_orthogonal(affine):
                raise DataError(
                    "The axes of the volume are not at right angles, and the app monaibundle would write its mask as if they were, millimetres off; expected "
                    "a volume without shear: use the app apps/anomaly, which keeps it."
                )
            mask = torch.from_numpy(verdict.mask.transpose(1, 0, 2).astype("uint8"))
            pred = MetaTensor(mask, affine=torch.from_numpy(affine[:, [1, 0, 2, 3]].copy()))
            return {**data, "pred": pred, "result": answer(verdict, "mask")}
