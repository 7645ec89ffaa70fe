"""Inference: one study in, the verdict on it and its mask or heat map out."""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from ..errors import CheckpointError, OptionError
from ..files import safe_name
from ..inference import Verdict
from .models import ServedModel
from .pacs.cache import dicom_behind
from .refusals import answering
from .response import LABELS, Kind, answer, checked_extension, checked_rate, write_result

__all__ = ["AnomalyInfer"]

logger = logging.getLogger(__name__)


class AnomalyInfer(InferTask):
    """A served model: ``mask`` is a segmentation for viewers, ``map`` the heat map for programs that want its values.

    A request may hold ``result_extension`` (``.nii.gz``, the default, or ``.nrrd``), ``result_write_to_file`` (false: JSON alone) and ``false_alarm_rate``.
    What MONAI Label's viewers send beside these does not concern it.

    Args:
        served: the model.
        kind: what the file of the result holds.
        keep: told the image and the verdict of each request, for a data store that keeps maps.
    """

    def __init__(self, served: ServedModel, kind: Kind, keep: Callable[[str, Verdict], None]):
        what = (
            "what is more unusual than normal scans are, at the calibrated threshold"
            if kind == "mask"
            else "heat map of how unusual each voxel is"
        )
        super().__init__(
            type=InferType.SEGMENTATION if kind == "mask" else InferType.OTHERS,
            labels=dict(LABELS) if kind == "mask" else {},
            dimension=3,
            description=f"{served.name}: {what}; trained on normal scans alone, research only",
        )
        self.served, self.kind, self.keep = served, kind, keep

    def is_valid(self) -> bool:
        """Listed also before it is trained: who asks it is told how to train it."""
        return True

    def get_path(self, validate: bool = True) -> str | None:
        """The model's file, for MONAI Label's ``/model``.

        Args:
            validate: only if it is there; else where a new one goes.
        """
        if not validate:
            return str(self.served.own)
        try:
            return str(self.served.file)
        except CheckpointError:
            return None

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Judge a study.

        Args:
            request: MONAI Label's, with the path of the study under ``image``.

        Returns:
            Path of the file, which the caller removes, and the JSON.

        Raises:
            RequestError: the study cannot be judged, with the reason.
        """
        with answering():
            extension = self._checked(request)
            verdict = self.served.detector().judge(dicom_behind(request["image"]), checked_rate(request))
            self.keep(request["image"], verdict)
            told = answer(verdict, self.kind)
            logger.info("%s: score %s, p %s, %s findings", told["series"], verdict.score, verdict.p_value, verdict.n_findings)
            if not request.get("result_write_to_file", True):
                return None, told
            name = f"{safe_name(verdict.case['series'])}_{self.kind}_{secrets.token_hex(4)}{extension}"
            return str(write_result(verdict, self.kind, Path(tempfile.gettempdir()) / name)), told

    def _checked(self, request: Mapping[str, Any]) -> str:
        """The ending of the result's file; it is a client's text and becomes part of a path."""
        extension, dtype = checked_extension(request), request.get("result_dtype")
        if self.kind == "map" and dtype not in (None, "", "float32"):  # cut to whole numbers it would be black, and say nothing about it
            raise OptionError(
                f"The heat map is asked for as {dtype}; expected float32, because its values lie between whole numbers: leave result_dtype out, or ask "
                f"{self.served.name} for the mask."
            )
        return extension
