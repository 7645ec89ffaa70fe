"""The table of findings: every region that is more unusual than normal patients are anywhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import Case
from ..errors import CalibrationError, OptionError
from ..files import write_csv, write_json
from ..scoring import Calibration, Finding, find_regions
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


class SaveFindings(SeriesWriter):
    """Connected regions above the calibrated threshold as ``findings.csv`` and, with what they mean, ``findings.json``.

    The threshold comes from the highest map value of each held-out normal patient, over all slices. So of new patients like those, all normal, at most the
    false-alarm rate has **any** finding, in whatever slice and series, and whatever the pooling of scores. Resizing to the source's grid and smoothing
    through the slices never raise the highest value: the promise stays true, but what was smoothed has to be stronger or larger to stand above the threshold.

    :class:`AssembleSeries` hands it each series; what it found there is taken over by who records finished series
    (:class:`~monai_anomaly.evaluation.RecordSeries`), which has the tables made from all of them. Without a calibration there are no findings, which the log
    says.

    Args:
        output_dir: folder for the two files.
        calibration: plain data of the detector's calibration.
        false_alarm_rate: rate of the threshold; default: 0.05 or the smallest that the calibration can promise.
        min_volume_ml: smaller regions are left out, and counted.

    Raises:
        CalibrationError: the held-out normal patients cannot promise the rate, or there were none.
        OptionError: a negative volume.
    """

    def __init__(
        self,
        output_dir: str | Path,
        calibration: Mapping[str, Any] | None,
        false_alarm_rate: float | None = None,
        min_volume_ml: float = 0.0,
    ):
        if not 0 <= min_volume_ml < float("inf"):
            raise OptionError(f"min_volume_ml is {min_volume_ml}; expected millilitres from 0 (every region) upwards.")
        self.output_dir, self.min_volume_ml = Path(output_dir), float(min_volume_ml)
        self.calibration = Calibration.among(calibration, "pixel")
        self.rate = self.threshold = None
        if self.calibration is not None:
            self.rate = self.calibration.default_rate if false_alarm_rate is None else false_alarm_rate
            self.threshold = self.calibration.threshold(self.rate)
        elif false_alarm_rate is not None:
            raise CalibrationError(
                f"Findings at a false-alarm rate of {false_alarm_rate:g} were asked for, but the model is not calibrated for these maps: train with "
                "calibration_fraction above 0 and score with the training's maps, or leave the rate out."
            )
        self.start()

    def start(self) -> None:
        """A run begins."""
        self._found: dict[int, dict[str, Any]] = {}

    def add(self, series: SeriesMap) -> None:
        """Find the regions of a series.

        Args:
            series: its map.
        """
        if self.threshold is None:
            return
        affine = series.grid.slice_affine if series.grid.in_patient else None
        found = find_regions(series.slices, self.threshold, affine, self.min_volume_ml)
        counts = {"n_found": found.n_found, "n_listed": len(found.listed), "n_below_min_volume": found.n_small}
        self._found[series.number] = {
            **counts,
            "smoothing_mm": series.smoothing_mm,
            "listed": [self._row(finding) for finding in found.listed],
        }

    def take(self, number: int) -> dict[str, Any] | None:
        """Hand over what was found in a case; it is not held any longer.

        Args:
            number: index into the cases.

        Returns:
            Plain data; ``None`` for a case that could not be read, and without a calibration.
        """
        return self._found.pop(number, None)

    @staticmethod
    def rows(case: Case, told: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of ``findings.csv`` of one case.

        Args:
            case: the case.
            told: what :meth:`take` gave of it.

        Example:
            >>> SaveFindings.rows({"patient": "p", "series": "s"}, {"listed": [{"peak": 0.5}]})
            [{'patient': 'p', 'series': 's', 'number': 1, 'peak': 0.5}]
        """
        return [_named(case) | {"number": number} | row for number, row in enumerate(told["listed"], start=1)]

    def write(self, found: Sequence[tuple[Case, Mapping[str, Any]]]) -> None:
        """Write both files.

        Args:
            found: cases with what :meth:`take` gave of them.
        """
        series = [_named(case) | {name: value for name, value in told.items() if name != "listed"} for case, told in found]
        rows = [row for case, told in found for row in self.rows(case, told)]
        if self.calibration is not None:
            write_csv(self.output_dir / "findings.csv", rows, columns=list(FINDING_COLUMNS))
        else:  # a table of an earlier model in the same folder would pass for this one's
            (self.output_dir / "findings.csv").unlink(missing_ok=True)
        write_json(
            self.output_dir / "findings.json",
            {
                "threshold": self.threshold,
                "false_alarm_rate": self.rate,
                "unit": "patient: of normal patients, at most this share has any finding",
                "calibration_patients": 0 if self.calibration is None else len(self.calibration),
                "min_volume_ml": self.min_volume_ml,
                "columns": FINDING_COLUMNS,
                "series": series,
                "findings": rows,
            },
        )

    def log(self, found: Sequence[tuple[Case, Mapping[str, Any]]]) -> None:
        """Say how many findings there are, or why there are none.

        Args:
            found: as for :meth:`write`.
        """
        counts = [told["n_found"] for _, told in found]
        if self.calibration is None:
            logger.warning(
                "There are no findings, because the model has no calibration for these maps: train with calibration_fraction above 0 and score with "
                "the training's maps."
            )
        else:
            logger.info("%d findings in %d of %d series above %.4g (false-alarm rate %.3f for a patient): %s", sum(counts),
                        sum(count > 0 for count in counts), len(counts), self.threshold, self.rate, self.output_dir)  # fmt: skip

    def _row(self, finding: Finding) -> dict[str, Any]:
        assert self.calibration is not None
        row = {"p_value": float(self.calibration.p_value(finding.peak))} | finding._asdict()
        # Nine digits tell any two float32 values apart; more would be the noise of float64, 56.669000000000004 mm.
        return {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in row.items()}


def _named(case: Case) -> dict[str, Any]:
    return {"patient": case.get("patient", ""), "series": case.get("series", "")}
