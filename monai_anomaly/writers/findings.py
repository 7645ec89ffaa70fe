"""The table of findings: every region that is more unusual than normal patients are anywhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CalibrationError, OptionError
from ..files import write_csv, write_json
from ..scoring import Calibration, Finding, Findings, find_regions
from .series import SeriesWriter
from .series_map import SeriesMap

__all__ = ["FINDING_COLUMNS", "SaveFindings"]

logger = logging.getLogger(__name__)

FINDING_COLUMNS = {
    "patient": "pseudonym",
    "series": "pseudonym, as in the names of map volumes and heat maps",
    "number": "1 is the highest peak of the series",
    "p_value": "how often a normal patient has a value as high as the peak anywhere",
    "peak": "highest map value",
    "peak_row": "in pixels of the source, from 0, slices turned as in the heat maps",
    "peak_column": "as peak_row",
    "peak_slice": "from 0, as in images.csv",
    "first_slice": "as peak_slice",
    "last_slice": "as peak_slice",
    "area_px": "pixels of the source; of pictures and frames, which have no place in the patient",
    "voxels": "of the source's grid",
    "volume_ml": "voxels times their volume",
    "height_mm": "extent over the rows of the slices, along the voxel grid",
    "width_mm": "extent over the columns",
    "depth_mm": "extent over the slices",
    "peak_lps_x_mm": "centre of the peak's voxel in DICOM patient coordinates (LPS), growing to the patient's left",
    "peak_lps_y_mm": "growing to the back",
    "peak_lps_z_mm": "growing to the head",
    "centroid_lps_x_mm": "mean position of the voxels, LPS",
    "centroid_lps_y_mm": "as centroid_lps_x_mm",
    "centroid_lps_z_mm": "as centroid_lps_x_mm",
}
"""What the columns of ``findings.csv`` mean."""

_WRITING_SHARE = 0.05


class SaveFindings(SeriesWriter):
    """Connected regions above the calibrated threshold as ``findings.csv`` and, with what they mean, ``findings.json``; see :class:`AssembleSeries`.

    The threshold comes from the highest map value of each held-out normal patient, over all slices. So of new patients like those, all normal, at most the
    false-alarm rate has **any** finding, in whatever slice and series, and whatever the pooling of scores. Resizing to the source's grid and smoothing
    through the slices never raise the highest value: the promise stays true, but smoothed lesions have to be stronger or larger to be found.

    Both files are whole at any time, and rewritten after each series, less often only where that would take more than a twentieth of the time: a run that
    is killed loses at most the series of the last moment. Without a calibration there are no findings, which the log says.

    Args:
        output_dir: folder for the two files.
        calibration: plain data of the detector's calibration.
        false_alarm_rate: rate of the threshold; default: 0.05 or the smallest that the calibration can promise.
        min_volume_ml: smaller regions are left out, and counted.
        most: findings listed per series; the rest is counted.

    Attributes:
        counts: number of findings of each case, by its index into the list of cases.

    Raises:
        CalibrationError: the held-out normal patients cannot promise the rate, or there were none.
        OptionError: a negative volume, or nothing to be listed.
    """

    def __init__(
        self,
        output_dir: str | Path,
        calibration: Mapping[str, Any] | None,
        false_alarm_rate: float | None = None,
        min_volume_ml: float = 0.0,
        most: int = 1000,
    ):
        if not 0 <= min_volume_ml < float("inf") or most < 1:
            raise OptionError(f"min_volume_ml is {min_volume_ml} and most {most}; expected 0 or more, and at least 1.")
        self.output_dir, self.min_volume_ml, self.most = Path(output_dir), float(min_volume_ml), int(most)
        self.calibration = Calibration.from_dict(calibration["pixel"]) if calibration and "pixel" in calibration else None
        self.rate = self.threshold = None
        if self.calibration is not None:
            self.rate = self.calibration.default_rate if false_alarm_rate is None else false_alarm_rate
            self.threshold = self.calibration.threshold(self.rate)
        elif false_alarm_rate is not None:
            raise CalibrationError(
                f"Findings at a false-alarm rate of {false_alarm_rate:g} were asked for, but the model is not calibrated for these maps: train with "
                "calibration_fraction above 0 and score with the training's maps, or leave the rate out."
            )
        self.counts: dict[int, int] = {}
        self.start()

    def start(self) -> None:
        """A run begins."""
        self.counts.clear()
        self._rows: list[dict[str, Any]] = []
        self._series: list[dict[str, Any]] = []
        self._next_writing = 0.0

    def add(self, series: SeriesMap) -> None:
        """Take the findings of a series into the table.

        Args:
            series: its map.
        """
        if self.calibration is None or self.threshold is None:
            return
        affine = series.grid.slice_affine if series.grid.in_patient else None
        found = find_regions(series.slices, self.threshold, affine, self.min_volume_ml, self.most)
        self.counts[series.number] = found.n_found
        named = {"patient": series.case.get("patient", ""), "series": series.case.get("series", str(series.number))}
        self._rows += [named | {"number": k} | self._row(finding) for k, finding in enumerate(found.listed, start=1)]
        self._series.append(named | _counted(found) | {"smoothing_mm": series.smoothing_mm})
        if time.monotonic() >= self._next_writing:
            self._write()

    def finish(self) -> None:
        """Write what is not written yet."""
        if self.calibration is None:
            logger.warning(
                "There are no findings, because the model has no calibration for these maps: train with calibration_fraction above 0 and score with "
                "the training's maps."
            )
            # A table of an earlier model in the same folder would pass for this one's.
            (self.output_dir / "findings.csv").unlink(missing_ok=True)
        self._write()
        if self.calibration is not None:
            logger.info("%d findings in %d of %d series above %.4g (false-alarm rate %.3f for a patient): %s", sum(self.counts.values()),
                        sum(count > 0 for count in self.counts.values()), len(self.counts), self.threshold, self.rate, self.output_dir)  # fmt: skip

    def _row(self, finding: Finding) -> dict[str, Any]:
        assert self.calibration is not None
        row = {"p_value": float(self.calibration.p_value(finding.peak))} | finding._asdict()
        # Nine digits tell any two float32 values apart; more would be the noise of float64, 56.669000000000004 mm.
        return {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in row.items()}

    def _write(self) -> None:
        started = time.monotonic()
        if self.calibration is not None:
            write_csv(self.output_dir / "findings.csv", self._rows, columns=list(FINDING_COLUMNS))
        write_json(
            self.output_dir / "findings.json",
            {
                "threshold": self.threshold,
                "false_alarm_rate": self.rate,
                "unit": "patient: of normal patients, at most this share has any finding",
                "calibration_patients": 0 if self.calibration is None else len(self.calibration),
                "min_volume_ml": self.min_volume_ml,
                "most_per_series": self.most,
                "columns": FINDING_COLUMNS,
                "series": self._series,
                "findings": self._rows,
            },
        )
        ended = time.monotonic()
        self._next_writing = ended + (ended - started) / _WRITING_SHARE


def _counted(found: Findings) -> dict[str, int]:
    return {"n_found": found.n_found, "n_listed": len(found.listed), "n_below_min_volume": found.n_small}
