"""Within a running program, as the command line does it: one study after another judged without files, and slices prepared for a detector."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ComponentLocator, ConfigParser

from . import __version__
from .bundle_root import root
from .data import Case, SliceDataset, find_case
from .errors import DataError, unwrapped
from .evaluation import Scored
from .files import file_sha256, file_stamp
from .networks import AnomalyDetector
from .training import load_detector
from .verdict import ModelIdentity, Verdict
from .writers import SaveFindings, SeriesMap, SeriesWriter

__all__ = ["ModelIdentity", "StudyDetector", "Verdict", "prepare_slices"]

IN_MEMORY: Mapping[str, Any] = {
    "network": "@network_def",
    "keep": {"_target_": "monai_anomaly.inference.KeepSeries"},
    "scores": {"_target_": "monai_anomaly.evaluation.ScoreCollector", "cases": "@dataset#data"},
    "batches#finished": [],
    "handlers": [
        "@scores",
        {
            "_target_": "monai_anomaly.writers.AssembleSeries",
            "cases": "@dataset#data",
            "writers": ["@keep", "@findings"],
            "smoothing_mm": "@smoothing_mm",
        },
    ],
}
"""Laid over ``inference.json``: nothing is written, nothing is taken from an earlier run, and the map is kept for the caller."""


class KeepSeries(SeriesWriter):
    """Hold the map that was assembled last, without a copy."""

    series: SeriesMap | None = None

    def add(self, series: SeriesMap) -> None:
        """Keep it.

        Args:
            series: its map.
        """
        self.series = series


class StudyDetector:
    """A bundle with its trained model, kept in memory: :meth:`judge` runs the bundle's own ``inference.json`` on one study.

    The model is loaded when it is first needed, and anew whenever its file has changed, so a training that puts another one in its place has it answer the
    next call. Threads may share a detector: one study is judged at a time, slice by slice, so memory is bounded by one study, and what one thread is told
    does not depend on the others.

    Args:
        bundle_root: the bundle's folder.
        model: its ``model.pt``; default: the bundle's own.
        device: where to score; default: that of ``inference.json``, the GPU if there is one.

    Example:
        >>> detector = StudyDetector("bundles/skipts")
        >>> verdict = detector.judge("export/series_7")  # doctest: +SKIP
        >>> verdict.score, verdict.p_value, verdict.mask.sum()  # doctest: +SKIP
        (0.734, 0.05, 2817)
    """

    def __init__(self, bundle_root: str | Path, model: str | Path | None = None, device: str | torch.device | None = None):
        self.bundle_root = Path(bundle_root).absolute()
        self.model = self.bundle_root / "models" / "model.pt" if model is None else Path(model).absolute()
        self.device = None if device is None else torch.device(device)
        self._lock = threading.Lock()
        # It holds a table of all that MONAI has, whose making is a quarter of the time that a picture takes.
        self._locator = ComponentLocator()
        self._stamp: tuple[int, ...] = ()
        self._loaded: tuple[AnomalyDetector, ModelIdentity] | None = None

    def judge(self, image: str | os.PathLike[str], false_alarm_rate: float | None = None) -> Verdict:
        """Score one study.

        Args:
            image: an image file, a volume, or the folder of one DICOM series.
            false_alarm_rate: of the thresholds; default: 0.05 or the smallest that the calibration can promise.

        Raises:
            DataError: the study cannot be read, or is more than one.
            CheckpointError: there is no model, or it cannot be read.
            CalibrationError: the model cannot promise the rate.
        """
        with self._lock, unwrapped():
            detector, identity = self._current()
            return self._judge(image, false_alarm_rate, detector, identity)

    def _current(self) -> tuple[AnomalyDetector, ModelIdentity]:
        while self._loaded is None or self._stamp != _stamp(self.model):
            self._loaded, self._stamp = None, _stamp(self.model)
            detector = load_detector(self.model)
            teacher = detector.system.teacher
            self._loaded = detector, ModelIdentity(
                name=self.bundle_root.name, system=type(detector.system).__name__, version=__version__, sha256=file_sha256(self.model),
                backbone=teacher.name, teacher_sha256=teacher.sha256, teacher_untrained=teacher.untrained,
                epochs=detector.provenance.get("epochs"),
            )  # fmt: skip
        return self._loaded

    def _judge(self, image: str | os.PathLike[str], rate: float | None, detector: AnomalyDetector, identity: ModelIdentity) -> Verdict:
        config = ConfigParser(ConfigParser.load_config_file(self.bundle_root / "inference.json"))
        config.locator = self._locator
        given = {"bundle_root": str(self.bundle_root), "cases": find_case(image), "network_def": detector, "false_alarm_rate": rate}
        config.update({**IN_MEMORY, **given} | ({} if self.device is None else {"device": self.device}))
        device = torch.device(config.get_parsed_content("device"))
        if next(detector.parameters()).device != device:
            detector.to(device)  # once: whatever is moved, be it to where it is, folds its teacher anew, a third of a small study's time
        config.get_parsed_content("evaluator").run()
        scores, kept, findings, tables = (config.get_parsed_content(name) for name in ("scores", "keep", "findings", "tables"))
        (case,) = scores.cases
        if scores.refused:
            raise DataError(f"{scores.refused[0].where}: {scores.refused[0].reason}")
        rows = tables.rows(Scored(scores.slices, scores.n_empty, scores.refused))
        found = findings.take(0)
        patients = tables.of_patients
        rate = patients.default_rate if rate is None and patients is not None else rate
        return Verdict(
            case=case, map=kept.series, slices=tuple(rows["images"]), n_slices=len(scores.slices) + scores.n_empty,
            patient=next(iter(rows["patients"]), None), false_alarm_rate=rate,
            threshold=None if patients is None or rate is None else patients.threshold(rate),
            map_threshold=findings.threshold, findings=() if found is None else tuple(SaveFindings.rows(case, found)),
            n_findings=None if found is None else found["n_found"], colour_range=detector.colour_range, model=identity,
        )  # fmt: skip


def prepare_slices(detector: AnomalyDetector, cases: Sequence[Case], **options: bool) -> SliceDataset:
    """Decode cases with the very transforms of ``evaluate.json``: images as the detector's training and every scoring see them.

    Args:
        detector: says how (``preprocessing``).
        cases: what to decode.
        options: of :class:`~monai_anomaly.data.SliceDataset`, such as ``drop_empty``.

    Returns:
        The slices, kept in memory unless ``keep=False``.

    Raises:
        AnomalyError: nothing can be read.

    Example:
        >>> from nibabel.testing import data_path
        >>> from monai_anomaly.data import find_case
        >>> from monai_anomaly.networks import SkipTS, Teacher
        >>> from monai_anomaly.scoring import AnomalyMap, Pooling
        >>> detector = AnomalyDetector(SkipTS(Teacher("resnet18", weights="random")), AnomalyMap(maps=[1, 2, 3]), Pooling("max"))
        >>> detector.preprocessing = {"image_size": 64, "preset": "auto", "ct_window": "brain", "plane": "axial", "neighbours": 0}
        >>> slices = prepare_slices(detector, find_case(f"{data_path}/anatomical.nii").cases, progress=False)
        >>> len(slices), tuple(slices[12]["image"].shape)
        (25, (3, 64, 64))
    """
    parser = ConfigParser()
    parser.read_config(str(Path(root("common")) / "evaluate.json"))  # the same in all bundles
    # Objects, not text: MONAI runs text that begins with $, and neither a stranger's model nor a file name may say what is run. A tuple is one to it.
    parser["network_def"] = detector
    parser["validate#dataset#data"] = tuple(cases)
    for name, value in {"keep": True, **options}.items():
        parser[f"validate#dataset#{name}"] = value
    with unwrapped():
        dataset: SliceDataset = parser.get_parsed_content("validate#dataset")
    return dataset


def _stamp(path: Path) -> tuple[int, ...]:
    """Of a file; empty where there is none."""
    try:
        return file_stamp(path)
    except OSError:
        return ()
