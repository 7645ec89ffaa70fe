"""The normal scans that a model's training held out, prepared again as every evaluation prepares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data import SliceDataset, builtin_study, find_cases, fingerprint, split_calibration
from ..data.study.folder import FOLDER
from ..errors import CheckpointError, DataError, OptionError
from ..inference import prepare_slices
from ..networks import AnomalyDetector
from ..scoring import Calibration

__all__ = ["held_out_slices", "training_data"]


def training_data(detector: AnomalyDetector) -> Path:
    """The data set that the detector was trained on, where that can be known without being told: the built-in study.

    Raises:
        OptionError: it was trained on other data.
    """
    name = _settings(detector).get("dataset_dir")
    if name != FOLDER:
        raise OptionError(
            f"The model was trained on a data set called {name!r}; expected to be told where it is: --dataset_dir DATA, the same as in the training."
        )
    return builtin_study()


def held_out_slices(detector: AnomalyDetector, dataset_dir: str | Path) -> SliceDataset:
    """Split the training's data set as the training did, and decode what it held out.

    Args:
        detector: as :func:`~monai_anomaly.training.load_detector` gives it; its provenance says how the data were split.
        dataset_dir: the data set of the training, test part included.

    Returns:
        The slices that the detector was calibrated on: without empty and marked ones.

    Raises:
        CheckpointError: the model does not say what is needed, or does not fit its own calibration.
        DataError: the data set is another one.
        OptionError: nothing was held out.
    """
    settings = _settings(detector)
    fraction, seed = settings.get("calibration_fraction"), settings.get("seed")
    if not isinstance(fraction, int | float) or not isinstance(seed, int):
        raise CheckpointError(
            "The model does not say how its normal scans were split (calibration_fraction, seed); expected a model.pt that train.json wrote: train again."
        )
    calibration = detector.calibration if isinstance(detector.calibration, dict) else {}
    if fraction == 0 or "image" not in calibration:
        raise OptionError(
            "The model was trained without held-out normal scans (calibration_fraction 0), so there is nothing to compare its export on; expected some: "
            "train again with calibration_fraction above 0, such as 0.2."
        )
    n_calibrated = len(Calibration.from_dict(calibration["image"]))
    cases = find_cases(str(dataset_dir))
    if fingerprint(cases.cases) != detector.provenance.get("data_fingerprint"):
        raise DataError(
            f"{Path(dataset_dir).name} is not the data set that the model was trained on: the fingerprints of their pixels differ; expected the whole data set "
            "of the training, unchanged: name it with --dataset_dir, or train again on this one."
        )
    _, held_out = split_calibration(cases.select(split="train"), fraction, seed)
    dataset = prepare_slices(detector, held_out, drop_empty=True, drop_marked=True)
    if len(dataset) != n_calibrated:
        raise CheckpointError(
            f"{len(dataset)} slices are held out, but the model was calibrated on {n_calibrated}; expected the same: train again with this version."
        )
    return dataset


def _settings(detector: AnomalyDetector) -> dict[str, Any]:
    settings = detector.provenance.get("settings")
    return settings if isinstance(settings, dict) else {}
