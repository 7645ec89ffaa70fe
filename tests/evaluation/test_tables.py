"""What the tables say, with a calibration and without one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from support.slices import Series, calibrate, evaluator, maps_of
from support.tiny import tiny_detector

from monai_anomaly.data import CaseList
from monai_anomaly.evaluation import Ledger, RecordSeries, ResultTables, Scored, SliceScore, WriteResults, pool_patients
from monai_anomaly.scoring import Calibration
from monai_anomaly.training import save_detector
from monai_anomaly.writers import AssembleSeries, SaveFindings


def tables_of(detector, dataset: Series, folder: Path) -> ResultTables:
    return ResultTables(detector, CaseList(tuple(dataset.cases), (), len(dataset.cases), folder), dataset.cases, folder)


def results(tmp_path: Path, calibration_patients: list[str], dataset: Series, series_pooling="mean"):
    """The tables after calibrating and scoring, by name."""
    detector = tiny_detector().eval()
    calibrate(detector, Series(calibration_patients), series_pooling=series_pooling)
    findings = SaveFindings(tmp_path, detector.calibration)
    ledger = Ledger(tmp_path / "finished", dataset.cases, save_detector(detector, tmp_path / "model.pt"), {}, "cpu")
    record = RecordSeries(ledger, dataset, tables_of(detector, dataset, tmp_path), findings, [])
    evaluator(detector, dataset, [AssembleSeries(dataset.cases, [findings]), record]).run()
    tables = {}
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    return detector, tables


def test_one_row_for_each_series(tmp_path):
    dataset = Series(["x", "x", "y", "z"], empty=((0, 1), (3, 0), (3, 1)))
    dataset.images[2, :, 20:40, 20:40] *= 20
    detector, tables = results(tmp_path, ["a", "b", "c"], dataset)
    scores = maps_of(detector, dataset).max(axis=2)
    expected = [scores[0, 0], scores[1].mean(), scores[2].mean()]
    rows = tables["series"]
    assert [(row["patient"], row["series"], row["slices"]) for row in rows] == [("x", "s0", "1"), ("x", "s1", "2"), ("y", "s2", "2")]
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected, rtol=1e-5)
    assert [int(row["rank"]) for row in rows] == [1 + sum(other > score for other in expected) for score in expected]
    assert [int(row["highest_slice"]) for row in rows] == [0, scores[1].argmax(), scores[2].argmax()]
    of_patients = Calibration.from_dict(detector.calibration["patient"])
    for row, score in zip(rows, expected, strict=True):
        assert float(row["p_value"]) == of_patients.p_value(score) and row["flagged"] == str(int(score > of_patients.threshold(0.25)))
    threshold = detector.calibration["pixel"]["scores"][-1]
    counted = {row["series"]: int(row["findings"]) for row in rows}
    assert all((counted[f"s{k}"] > 0) == (scores[k].max() > threshold) for k in (1, 2))
    assert sum(counted.values()) == len(tables["findings"]) > 0 == counted["s2"]
    assert json.loads((tmp_path / "metrics.json").read_text())["counts"]["series"] == 3


def test_a_series_has_no_p_value_where_held_out_patients_had_several(tmp_path):
    """What is calibrated is the patient: the highest of two series is higher than one series is."""
    _, tables = results(tmp_path, ["a", "a", "b"], Series(["x", "y"]))
    assert all(row["p_value"] == row["flagged"] == "" and row["score"] and row["rank"] for row in tables["series"])
    assert all(row["p_value"] for row in tables["patients"])


def test_the_slices_of_a_patient_are_pooled_once(tmp_path, monkeypatch):
    """Tables are made again and again while many series are scored."""
    calls = []
    monkeypatch.setattr("monai_anomaly.evaluation.tables.pool_patients", lambda *given: calls.append(given) or pool_patients(*given))
    dataset = Series(["x", "x", "y"])
    rows = [SliceScore(case, k, -1, 0.5, 0.0) for case, k in dataset.index]
    tables_of(tiny_detector().eval(), dataset, tmp_path).write(Scored(rows, n_empty=0, refused=[]))
    assert len(calls) == 1 and len((tmp_path / "patients.csv").read_text().splitlines()) == 3


def test_without_findings_the_column_is_empty(tmp_path):
    dataset, detector = Series(["x", "y"]), tiny_detector().eval()
    evaluator(detector, dataset, [WriteResults(tables_of(detector, dataset, tmp_path))]).run()
    with (tmp_path / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["findings"], row["p_value"]) for row in rows] == [("", ""), ("", "")] and sorted(row["rank"] for row in rows) == ["1", "2"]
