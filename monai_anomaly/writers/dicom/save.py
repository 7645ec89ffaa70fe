"""Writer that turns each finished series into DICOM objects for its study."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...data import Case, case_files
from ...data.formats import DICOM_FORMATS, file_format
from ...errors import DataError
from ...files import file_sha256, safe_name
from ..findings import SaveFindings
from ..series import SeriesWriter
from ..series_map import SeriesMap
from .algorithm import Algorithm
from .file import write_dicom
from .parametric_map import parametric_map
from .segmentation import segmentation
from .source import read_sources, source_series

__all__ = ["SaveDicom"]

logger = logging.getLogger(__name__)


class SaveDicom(SeriesWriter):
    """Mask and map of each DICOM series as Segmentation and Parametric Map in its own study; see :class:`~monai_anomaly.writers.AssembleSeries`.

    ``<series>_seg.dcm`` holds the voxels above the threshold of the findings, ``<series>_map.dcm`` the map. Pictures without a place in the patient (CR, DX)
    get a mask alone, a model without calibration gives maps alone. Cases that are no DICOM, and series to which a result cannot refer, are counted and said.

    File names are pseudonyms, but **the files name the patient**, as all objects of a study do.

    Args:
        output_dir: folder for the files.
        detector: the :class:`~monai_anomaly.networks.AnomalyDetector` that is scoring.
        findings: who knows threshold and false-alarm rate.
        model: the detector's file, whose hash goes into the objects.

    Raises:
        DataError: the model's file cannot be read.
    """

    def __init__(self, output_dir: str | Path, detector: Any, findings: SaveFindings, model: str | Path | None = None):
        self.output_dir, self.window = Path(output_dir), detector.colour_range
        try:
            digest = "" if model is None else file_sha256(model)
        except OSError as error:
            raise DataError(
                f"{Path(str(model)).name} cannot be read ({error.strerror or error}); expected a model file: name it with --model."
            ) from error
        described = detector.description
        self.algorithm = Algorithm(described["system"], described["teacher"]["sha256"], digest, findings.threshold, findings.rate)
        self.start()

    def start(self) -> None:
        """A run begins."""
        self._n_masks = self._n_maps = self._n_others = 0
        self._refused: Counter[str] = Counter()

    def add(self, series: SeriesMap) -> None:
        """Write the objects of a series.

        Args:
            series: its map.
        """
        try:
            files = case_files(series.case)
            if file_format(files[0]) not in DICOM_FORMATS:
                self._n_others += 1
                return
            sources = read_sources(files)
            _check_grid(series, source_series(sources).affine)
            algorithm = replace(self.algorithm, smoothing_mm=series.smoothing_mm)
            mask = anomaly_map = None
            if algorithm.threshold is not None:
                mask = segmentation(sources, series.source > algorithm.threshold, algorithm=algorithm)
            if series.grid.in_patient:
                anomaly_map = parametric_map(sources, series.source, algorithm=algorithm, window=self.window)
        except DataError as error:  # one odd series never ends a run
            self._refused[str(error)] += 1
            return
        name = series.case.get("series", str(series.number))
        if mask is not None:
            write_dicom(self._file(name, "seg"), mask)
            self._n_masks += 1
        if anomaly_map is not None:
            write_dicom(self._file(name, "map"), anomaly_map)
            self._n_maps += 1

    def remove(self, case: Case, slices: Iterable[int]) -> None:
        """Remove the objects of a series, as far as there are any.

        Args:
            case: the case.
            slices: its slices.
        """
        for kind in ("seg", "map"):
            self._file(case["series"], kind).unlink(missing_ok=True)

    def finish(self) -> None:
        """Say what was written, and what not."""
        if self._n_masks or self._n_maps:
            logger.info(
                "Wrote %d masks (DICOM SEG) and %d maps (Parametric Map), which name their patients as their studies do: %s",
                self._n_masks, self._n_maps, self.output_dir,
            )  # fmt: skip
        if self._n_others:
            logger.info("%d cases do not come from DICOM and have no DICOM results.", self._n_others)
        if self.algorithm.threshold is None and self._n_maps:
            logger.warning("There are no DICOM masks, because the model has no calibration for these maps.")
        for why, count in self._refused.items():
            logger.warning("%d series have no DICOM results: %s", count, why)

    def _file(self, series: str, kind: str) -> Path:
        return self.output_dir / f"{safe_name(series)}_{kind}.dcm"


def _check_grid(series: SeriesMap, affine: np.ndarray | None) -> None:
    """The headers are read once more, minutes after the pixels were."""
    if (affine is not None) != series.grid.in_patient or (
        affine is not None and not np.allclose(affine, series.grid.source_affine, atol=1e-4)
    ):
        raise DataError("The files of the series lie elsewhere than when they were scored; expected them unchanged: score it again.")
