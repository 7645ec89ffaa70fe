"""What is calibrated on held-out normal patients, and what the tables say with it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from support.tiny import tiny_detector

from monai_anomaly.data import CaseList
from monai_anomaly.scoring import AnomalyMap, Calibration, Pooling
from monai_anomaly.training import (
    AnomalyEvaluator,
    CalibrateDetector,
    Ledger,
    RecordSeries,
    ResultTables,
    WriteResults,
    load_detector,
    save_detector,
)
from monai_anomaly.writers import AssembleSeries, SaveFindings

GEOMETRY = {
    "slice_affine": torch.eye(4, dtype=torch.float64), "slice_shape": torch.tensor([64, 64, 2]), "source_affine": torch.eye(4, dtype=torch.float64),
    "source_shape": torch.tensor([64, 64, 2]), "in_patient": True,
}  # fmt: skip


class Series(torch.utils.data.Dataset):
    """Cases of two slices; ``patients`` names the patient of each case, ``empty`` are (case, slice)."""

    def __init__(self, patients: list[str], empty: tuple[tuple[int, int], ...] = ()):
        n = 2 * len(patients)
        self.images = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(n))
        self.empty = empty
        self.cases = [{"patient": name, "series": f"s{k}", "image": f"{k}.png"} for k, name in enumerate(patients)]
        self.index = [divmod(item, 2) for item in range(n)]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, item):
        place = divmod(item, 2)
        return {
            "image": self.images[item], "has_mask": False, "label": -1, "case": place[0], "slice_index": place[1], "empty": place in self.empty,
            "refused": "", **GEOMETRY,
        }  # fmt: skip


def evaluator(detector, dataset, handlers=()):
    return AnomalyEvaluator(torch.device("cpu"), torch.utils.data.DataLoader(dataset, batch_size=3), detector, val_handlers=list(handlers))


def calibrate(detector, dataset, held_out=True, series_pooling="max"):
    engine = Engine(lambda engine, batch: None)
    CalibrateDetector(evaluator(detector, dataset), dataset.cases, detector, held_out, series_pooling).attach(engine)
    for _ in range(2):  # the second run starts anew
        engine.run([0])
    return detector.calibration


def maps_of(detector, dataset):
    """``(cases, slices, pixels)``."""
    with torch.no_grad():
        return detector(dataset.images).flatten(1).reshape(-1, 2, 64 * 64).numpy()


@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("pooling", ["max", "mean", "top_10"])
def test_each_unit_has_its_own_scores_and_the_model_one_colour_scale(held_out, pooling):
    detector, dataset = tiny_detector().eval(), Series(["a", "a", "b", "c"], empty=((3, 0),))
    detector.pooling = Pooling(pooling)
    calibration = calibrate(detector, dataset, held_out, "mean")
    maps = maps_of(detector, dataset)
    scored = np.delete(maps.reshape(8, -1), 6, axis=0)
    low, hot = np.quantile(scored, 0.5, axis=1, method="lower").mean(), np.quantile(scored.max(axis=1), 0.95)
    np.testing.assert_allclose(detector.colour_range, (low, low + 2 * (hot - low)), rtol=1e-5)
    of_normals = {"image", "patient", "pixel", "series_per_patient"} if held_out else set()
    assert set(calibration) == {"colour_range", "series_pooling"} | of_normals
    if held_out:
        scores = Pooling(pooling)(torch.from_numpy(scored)).numpy()
        np.testing.assert_allclose(calibration["image"]["scores"], np.sort(scores), rtol=1e-5)
        np.testing.assert_allclose(calibration["patient"]["scores"], np.sort([scores[:4].mean(), scores[4:6].mean(), scores[6]]), rtol=1e-5)
        highest = [scored[:4].max(), scored[4:6].max(), scored[6].max()]
        np.testing.assert_allclose(calibration["pixel"]["scores"], np.sort(highest), rtol=1e-5)
        assert calibration["series_per_patient"] == 2


def test_with_maxima_throughout_the_patients_scores_are_their_highest_values():
    calibration = calibrate(tiny_detector().eval(), Series(["a", "a", "b", "c"]))
    assert calibration["pixel"] == calibration["patient"]


def test_series_without_a_scored_slice_do_not_count():
    dataset = Series(["a", "a", "b"], empty=((1, 0), (1, 1)))
    assert calibrate(tiny_detector().eval(), dataset)["series_per_patient"] == 1


def test_another_pooling_keeps_the_threshold_of_findings_and_other_maps_do_not(tmp_path, caplog):
    detector = tiny_detector().eval()
    calibration = calibrate(detector, Series(["a", "b"]))
    path = save_detector(detector, tmp_path / "model.pt")
    assert load_detector(path).calibration == calibration
    kept = {key: calibration[key] for key in ("series_pooling", "colour_range", "pixel")}
    assert load_detector(path, pooling="mean").calibration == kept and "that of findings does not depend on the pooling" in caplog.text
    caplog.clear()
    for pooling in (None, "mean"):
        assert load_detector(path, maps=[1, 2], pooling=pooling).calibration == {"series_pooling": "max"}
    assert caplog.text.count("there are no findings") == 2
    # The threshold is measured on maps: with another pooling of the very same scans it is the same.
    detector.pooling = Pooling("mean")
    assert calibrate(detector, Series(["a", "b"]))["pixel"] == calibration["pixel"]
    detector.anomaly_map = AnomalyMap([1])
    assert calibrate(detector, Series(["a", "b"]))["pixel"] != calibration["pixel"]


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


def test_without_findings_the_column_is_empty(tmp_path):
    dataset, detector = Series(["x", "y"]), tiny_detector().eval()
    evaluator(detector, dataset, [WriteResults(tables_of(detector, dataset, tmp_path))]).run()
    with (tmp_path / "series.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["findings"], row["p_value"]) for row in rows] == [("", ""), ("", "")] and sorted(row["rank"] for row in rows) == ["1", "2"]
