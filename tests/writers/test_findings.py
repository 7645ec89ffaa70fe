"""The table of findings while series after series is scored."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine

from monai_anomaly.errors import CalibrationError, CheckpointError, OptionError
from monai_anomaly.scoring import find_regions
from monai_anomaly.writers import FINDING_COLUMNS, AssembleSeries, MapGrid, SaveFindings, SaveVolumes

CASES = [{"series": "s-a", "patient": "p-1"}, {"series": "s-b", "patient": "p-1"}, {"series": "=picture", "patient": "p-2"}]
CALIBRATION = {"pixel": {"scores": [k / 20 for k in range(1, 20)]}}  # the threshold at 0.05 is 0.95
AFFINE = np.array([[0.0, -2.0, 0, 10], [-1.0, 0, 0, 20], [0, 0, 5.0, -30], [0, 0, 0, 1]])
GRID = MapGrid(AFFINE, (6, 12, 3), AFFINE, (6, 12, 3), True)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "findings.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def find(drive):
    """Score a study, and have the table made of what was found in its first cases."""

    def run(findings: SaveFindings, study, smoothing_mm: float = 0.0, others=()) -> list[dict]:
        drive(AssembleSeries(CASES, [*others, findings], smoothing_mm=smoothing_mm), study)
        taken = [(CASES[number], findings.take(number)) for number in range(len(study))]
        found = [(case, told) for case, told in taken if told is not None]
        findings.write(found)
        findings.log(found)
        return [told for _, told in found]

    return run


@pytest.fixture
def study(scored):
    """Two findings in the first series, none in the second, one in the picture."""
    maps = torch.zeros(3, 6, 12)
    maps[1, 2, 3:5] = torch.tensor([2.0, 3.0])
    maps[2, 5, 11] = 0.97
    picture = torch.zeros(1, 6, 12)
    picture[0, 4, 4] = 0.96
    return [scored(maps, GRID), scored(torch.full((3, 6, 12), 0.95), GRID), scored(picture)]


def test_one_row_for_each_finding(tmp_path: Path, study, find, caplog) -> None:
    caplog.set_level(logging.INFO)
    found = find(SaveFindings(tmp_path, CALIBRATION), study)
    first, second, third = table(tmp_path)
    assert list(first) == list(FINDING_COLUMNS)
    names = [(row["patient"], row["series"], row["number"]) for row in (first, second, third)]
    assert names == [("p-1", "s-a", "1"), ("p-1", "s-a", "2"), ("p-2", "'=picture", "1")]
    assert (first["peak"], first["peak_slice"], first["voxels"], first["volume_ml"]) == ("3.0", "1", "2", "0.02")
    position = [float(first[f"peak_lps_{axis}_mm"]) for axis in "xyz"]
    np.testing.assert_allclose(position, apply_affine(AFFINE, [2, 4, 1]) * [-1, -1, 1])
    assert (first["area_px"], third["area_px"], third["voxels"], third["volume_ml"], third["peak_lps_x_mm"]) == ("", "1", "", "", "")
    assert {row["p_value"] for row in (first, second, third)} == {"0.05"}
    assert [told["n_found"] for told in found] == [2, 0, 1] and "3 findings in 2 of 3 series above 0.95" in caplog.text


def test_the_json_says_what_the_table_means(tmp_path: Path, study, find) -> None:
    find(SaveFindings(tmp_path, CALIBRATION, 0.1, min_volume_ml=0.015), study, smoothing_mm=0.1)
    data = json.loads((tmp_path / "findings.json").read_text())
    assert (data["threshold"], data["false_alarm_rate"], data["calibration_patients"], data["min_volume_ml"]) == (0.9, 0.1, 19, 0.015)
    assert data["columns"] == FINDING_COLUMNS
    series = [(row["n_found"], row["n_listed"], row["n_below_min_volume"], row["smoothing_mm"]) for row in data["series"]]
    assert series == [(1, 1, 1, 0.1), (1, 1, 0, 0.1), (1, 1, 0, 0)]
    rows = table(tmp_path)
    assert len(data["findings"]) == len(rows) == 3
    for entry, row in zip(data["findings"], rows, strict=True):
        assert {k: "" if v is None else str(v) for k, v in entry.items()} == row | {"series": entry["series"]}


def test_the_table_and_the_volume_show_the_same_place(tmp_path: Path, study, find) -> None:
    find(SaveFindings(tmp_path, CALIBRATION), study, others=[SaveVolumes(tmp_path)])
    image = nib.load(tmp_path / "s-a.nii.gz")
    place = np.unravel_index(np.argmax(image.get_fdata()), image.shape)
    row = table(tmp_path)[0]
    np.testing.assert_allclose(
        [float(row[f"peak_lps_{axis}_mm"]) for axis in "xyz"], apply_affine(image.affine, place) * [-1, -1, 1], atol=1e-4
    )


def test_what_was_found_is_plain_data_handed_over_once(tmp_path: Path, study, drive) -> None:
    """It goes through a file before the table is made, and memory does not grow with the number of series."""
    findings = SaveFindings(tmp_path, CALIBRATION)
    drive(AssembleSeries(CASES, [findings]), study)
    taken = [findings.take(number) for number in range(3)]
    assert json.loads(json.dumps(taken)) == taken and [findings.take(number) for number in range(3)] == [None] * 3


def test_without_a_calibration_there_are_no_findings_and_the_log_says_why(tmp_path: Path, study, find, caplog) -> None:
    (tmp_path / "findings.csv").write_text("of an earlier model")
    for calibration in (None, {}, {"patient": {"scores": [1.0]}}):
        caplog.clear()
        assert find(SaveFindings(tmp_path, calibration), study) == []
        assert caplog.text.count("no calibration for these maps: train with calibration_fraction above 0") == 1
        assert not (tmp_path / "findings.csv").exists()
        assert json.loads((tmp_path / "findings.json").read_text())["threshold"] is None
    with pytest.raises(CalibrationError, match="not calibrated for these maps"):
        SaveFindings(tmp_path, None, 0.05)


def test_no_finding_is_a_table_with_its_header(tmp_path: Path, scored, find) -> None:
    find(SaveFindings(tmp_path, CALIBRATION), [scored(torch.zeros(1, 6, 12))])
    assert (tmp_path / "findings.csv").read_text() == ",".join(FINDING_COLUMNS) + "\n"


def test_a_promise_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="19 normal calibration scores can promise no less"):
        SaveFindings(tmp_path, CALIBRATION, 0.01)
    with pytest.raises(CheckpointError, match="calibration"):
        SaveFindings(tmp_path, {"pixel": {"scores": []}})
    with pytest.raises(OptionError, match="expected millilitres from 0"):
        SaveFindings(tmp_path, CALIBRATION, min_volume_ml=-1.0)


def test_findings_are_those_of_the_volume(tmp_path: Path, find, scored) -> None:
    """The values that were written are the values that were searched, smoothing included."""
    maps = torch.rand(3, 6, 12, generator=torch.Generator().manual_seed(0)) + 0.5
    maps[1] = torch.nan
    study = [scored(maps, GRID, scored=[True, False, True])]
    find(SaveFindings(tmp_path, CALIBRATION), study, smoothing_mm=4.0, others=[SaveVolumes(tmp_path)])
    volume = nib.load(tmp_path / "s-a.nii.gz").get_fdata().transpose(1, 0, 2)
    expected = find_regions(volume, 0.95, AFFINE).listed
    assert [np.float32(row["peak"]) for row in table(tmp_path)] == [np.float32(finding.peak) for finding in expected] and expected
