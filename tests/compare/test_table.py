from __future__ import annotations

import re

import numpy as np
import pytest

from monai_anomaly.compare.table import comparison_table, mean_and_deviation

TEACHER = {"name": "resnet18", "source": "teacher.pth", "sha256": "ab" * 32, "untrained": False}


def record(system, seed, auroc, dataset="head_ct", **more):
    return {
        "run": f"{dataset}/{system}/{seed}",
        "status": "completed",
        "reason": None,
        "dataset": dataset,
        "system": system,
        "seed": seed,
        "epochs": 7,
        "image_auroc": auroc,
        "image_ap": auroc / 2,
        "teacher": TEACHER,
        "settings": {"backbone": "resnet18", "lr": 0.005},
        "versions": {"torch": "2.13.0"},
        **more,
    }


def failed(system, seed, reason):
    return {
        "run": f"head_ct/{system}/{seed}",
        "status": "failed",
        "reason": reason,
        "dataset": "head_ct",
        "system": system,
        "seed": seed,
        "epochs": 7,
    }


def floor(name, auroc, dataset="head_ct", seed=None, **conditions):
    return {
        "status": "completed",
        "floor": name,
        "dataset": dataset,
        "seed": seed,
        "conditions": conditions,
        "image_auroc": auroc,
        "reason": None,
    }


def cells(table: str) -> dict[str, dict[str, str]]:
    """Row and column names to cells, read as Markdown."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


@pytest.mark.parametrize("n", [2, 3, 5])
def test_mean_and_deviation_are_numpys(n):
    values = np.random.default_rng(n).random(n)
    mean, deviation = map(float, re.findall(r"[\d.]+", mean_and_deviation(values.tolist())))
    assert mean == pytest.approx(100 * values.mean(), abs=0.051) and deviation == pytest.approx(100 * values.std(ddof=1), abs=0.051)


def test_one_seed_has_no_deviation():
    assert mean_and_deviation([0.5]) == "50.0"


def test_rows_are_systems_and_floors_and_columns_are_data_sets():
    pixels = {"pixel_auroc": 0.9, "pixel_aupro": 0.25, "pixel_ap": 0.1}
    records = [record("skipts", seed, auroc) for seed, auroc in ((42, 0.6), (142, 0.8))]
    records += [record("rd4ad", 42, 0.7), record("skipts", 42, 0.9, "busi", **pixels)]
    table = cells(comparison_table(records, [floor("mean intensity", 0.75), floor("nearest neighbour", 0.5, "busi")]))
    assert list(table) == ["skipts", "rd4ad", "*mean intensity*", "*nearest neighbour*"]
    assert list(table["skipts"]) == ["head_ct AUROC", "head_ct AP", "busi AUROC", "busi AP", "busi pixel AUROC", "busi AUPRO"]
    assert list(table["skipts"].values()) == ["70.0 ± 14.1", "35.0 ± 7.1", "90.0", "45.0", "90.0", "25.0"]
    assert list(table["*mean intensity*"].values()) == ["75.0", "–", "–", "–", "–", "–"]
    assert table["rd4ad"]["busi AUROC"] == "–" and table["*nearest neighbour*"]["busi AUROC"] == "50.0"


def test_the_table_says_where_a_floor_wins():
    records = [record("skipts", 42, 0.6), record("rd4ad", 42, 0.9), record("skipts", 42, 0.9, "busi")]
    floors = [floor("mean intensity", 0.824), floor("nearest neighbour", 0.5), floor("mean intensity", 0.9, "busi")]
    lines = comparison_table(records, floors).splitlines()
    assert "On head_ct *mean intensity* (82.4) beats skipts (60.0)." in lines and "On busi no floor beats a system." in lines


def test_a_failed_run_is_shown_and_its_reason_told():
    records = [record("skipts", 42, 0.6), failed("skipts", 142, "No teacher."), failed("rd4ad", 42, "No data.")]
    text = comparison_table(records, [])
    assert cells(text)["skipts"]["head_ct AUROC"] == "60.0 (1 of 2)" and cells(text)["rd4ad"]["head_ct AUROC"] == "failed"
    assert "* skipts on head_ct, seed 142: No teacher." in text and "* rd4ad on head_ct, seed 42: No data." in text


def test_a_table_of_failed_runs_alone():
    assert "failed" in comparison_table([failed("skipts", 42, "No teacher.")], [])


def test_the_budget_is_stated_with_what_differs_and_the_command():
    records = [
        record("skipts", 42, 0.6),
        record("rd4ad", 142, 0.6, settings={"backbone": "resnet18", "lr": 0.1}, versions={"torch": "2.14.0"}),
    ]
    text = comparison_table(records, [], "python -m monai_anomaly compare")
    assert "2 seeds (42, 142)" in text and "last of 7 epochs" in text and "teacher teacher.pth (SHA-256 abababababab...)" in text
    assert "; backbone resnet18;" in text and "lr 0.005 (skipts), 0.1 (rd4ad)" in text and "torch 2.13.0 and 2.14.0" in text
    assert "Command: `python -m monai_anomaly compare`" in text


def test_floors_of_one_name_are_told_apart_by_what_differs():
    floors = [floor("nearest neighbour", 0.5, seed=42, teacher="random", image_size=64)]
    floors += [
        floor("nearest neighbour", 0.7, seed=142, teacher="random", image_size=64),
        floor("nearest neighbour", 0.9, teacher="a.pth", image_size=64),
    ]
    table = cells(comparison_table([record("skipts", 42, 0.6)], floors))
    assert table["*nearest neighbour, teacher random*"]["head_ct AUROC"] == "60.0 ± 14.1"
    assert table["*nearest neighbour, teacher a.pth*"]["head_ct AUROC"] == "90.0"
