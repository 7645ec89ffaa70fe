"""One complete ``model.pt``: written whole, read without executing anything, rebuilt from its own description."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..errors import AnomalyError, CheckpointError
from ..files import write_whole
from ..networks import SYSTEMS, AnomalyDetector, Teacher
from ..networks.description import read_description
from ..scoring import AnomalyMap, Calibration, Pooling
from ..state_file import read_state

__all__ = ["SaveDetector", "load_detector", "read_model_description", "save_detector"]

logger = logging.getLogger(__name__)


def save_detector(detector: AnomalyDetector, path: str | Path) -> Path:
    """Write the detector's state dict, teacher and description included, so that a killed run never leaves half a file.

    Args:
        detector: the detector.
        path: usually ``models/model.pt``; its folder is made.
    """
    return write_whole(path, lambda file: torch.save(detector.state_dict(), file))


def load_detector(path: str | Path, maps: list[int] | None = None, pooling: str | None = None) -> AnomalyDetector:
    """Rebuild a trained detector from its file alone; nothing is downloaded.

    Args:
        path: a ``model.pt`` that training wrote.
        maps: other levels than those of the training, for comparison.
        pooling: another pixel pooling than that of the training. With either of the two the stored
            calibration of scores no longer applies and is dropped; that of findings (``pixel``) depends on the maps only.

    Returns:
        The detector in evaluation mode, on the CPU.

    Raises:
        CheckpointError: the file is absent, unreadable, or not such a model.

    Example:
        >>> import tempfile
        >>> from monai_anomaly.networks import SkipTS
        >>> detector = AnomalyDetector(SkipTS(Teacher("resnet18", weights="random")), AnomalyMap(), Pooling("max"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     loaded = load_detector(save_detector(detector, Path(folder) / "model.pt"))
        >>> loaded.system.teacher.sha256 == detector.system.teacher.sha256
        True
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"There is no model at {path}; expected the model.pt that training writes: train first, or name one with --model FILE."
        )
    state, description = _read(path)
    _check_calibration(path, description["calibration"])
    detector = _build(path, description)
    try:
        detector.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f"The weights in {path.name} do not fit its own description ({str(error).splitlines()[0]}): fetch the file anew."
        ) from error
    return _change_rule(detector, maps, pooling).eval()


def read_model_description(path: str | Path) -> dict[str, Any]:
    """Read what a trained detector's file tells of itself, without building the network.

    Args:
        path: a ``model.pt`` that training wrote.

    Returns:
        The plain data of :attr:`monai_anomaly.networks.AnomalyDetector.description`.

    Raises:
        CheckpointError: the file is absent, unreadable, or not such a model.

    Example:
        >>> read_model_description("models/model.pt")["provenance"]["epochs"]  # doctest: +SKIP
        200
    """
    return _read(Path(path))[1]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State dict and description."""
    state = read_state(path)
    if "_extra_state" not in state:
        raise CheckpointError(
            f"{path.name} has no description of its network; expected a model.pt that monai_anomaly's training wrote: train again, or name another."
        )
    return state, read_description(state["_extra_state"])


def _build(path: Path, description: dict[str, Any]) -> AnomalyDetector:
    try:
        told = description["teacher"]
        teacher = Teacher(told["name"], weights=None, stages=told["stages"], seed=told["seed"])
        # Only systems of this package can be named; the file's text is never resolved to any other object.
        system = SYSTEMS[description["system"]](teacher, **description["options"])
        return AnomalyDetector(
            system, AnomalyMap(**description["anomaly_map"]), Pooling(description["pooling"]), description["preprocessing"]
        )
    except Exception as error:  # a stranger's options can fail anywhere, in torch too
        raise CheckpointError(
            f"{path.name} describes a network that this version cannot build ({error}): update monai_anomaly or train again."
        ) from error


def _check_calibration(path: Path, calibration: object) -> None:
    """What is read from it later, some of it only after all images were scored."""
    try:
        if calibration is None:
            return
        if not isinstance(calibration, dict):
            raise TypeError(f"a {type(calibration).__name__}")
        low, high = calibration.get("colour_range", (0.0, 1.0))
        if not -math.inf < float(low) < float(high) < math.inf:
            raise ValueError(f"a colour range from {low} to {high}")
        Pooling(calibration.get("series_pooling", "max"))
        for unit in ("image", "patient", "pixel"):
            if unit in calibration:
                Calibration.from_dict(calibration[unit])
    except (TypeError, ValueError, AnomalyError) as error:
        raise CheckpointError(
            f"The calibration in {path.name} cannot be read ({error}); expected what training writes: train again."
        ) from error


def _change_rule(detector: AnomalyDetector, maps: list[int] | None, pooling: str | None) -> AnomalyDetector:
    maps = None if maps is None or (isinstance(maps, Sequence) and tuple(maps) == detector.anomaly_map.maps) else maps
    pooling = None if pooling == detector.pooling.rule else pooling
    if maps is not None:
        detector.set_map(AnomalyMap(**{**detector.anomaly_map.config, "maps": maps}))
    if pooling is not None:
        detector.pooling = Pooling(pooling)
    if (maps is not None or pooling is not None) and detector.calibration is not None:
        # Colours and the highest map values are measured on maps before any pooling.
        kept = ("series_pooling",) if maps is not None else ("series_pooling", "colour_range", "pixel")
        detector.calibration = {key: value for key, value in detector.calibration.items() if key in kept}
        logger.warning(
            "Another %s than the training's is asked for: its calibration does not apply, so scores have no threshold and no p-value%s.",
            "choice of maps" if maps is not None else "pooling",
            "; that of findings does not depend on the pooling and stays"
            if "pixel" in detector.calibration
            else ", and there are no findings",
        )
    return detector


class SaveDetector:
    """Handler of the trainer: write the last epoch's model when training is over (after calibration, if attached behind it).

    Args:
        detector: the detector.
        path: where to write it.
    """

    def __init__(self, detector: AnomalyDetector, path: str | Path):
        self.detector, self.path = detector, Path(path)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the model."""
        save_detector(self.detector, self.path)
        logger.info("The model of the last epoch (%d) is at %s", engine.state.epoch, self.path)
