"""Splits by patient, and what lies on both sides."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from monai_anomaly.data import check_patients, find_cases, find_duplicates, fingerprint, report_duplicates, split_calibration
from monai_anomaly.errors import DataError, OptionError


def cases(n, per_patient=1):
    return [{"image": f"/no/{p}_{k}.png", "patient": f"p{p:02d}", "series": f"p{p}_{k}"} for p in range(n) for k in range(per_patient)]


def picture(path, seed, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8), dtype=np.uint8)).convert(mode).save(path)
    return {"image": str(path), "patient": path.stem, "series": path.stem}


@pytest.mark.parametrize(("n", "fraction", "held"), [(10, 0.2, 2), (60, 0.2, 12), (3, 0.01, 1), (2, 0.9, None), (7, 0.5, 4)])
def test_whole_patients_of_the_wanted_number(n, fraction, held):
    everything = cases(n, 3)
    if held is None:
        with pytest.raises(DataError, match="cannot be parted"):
            split_calibration(everything, fraction, 0)
        return
    train, calibration = split_calibration(everything, fraction, 0)
    assert len({case["patient"] for case in calibration}) == held and len(calibration) == 3 * held
    assert sorted(case["series"] for case in train + calibration) == sorted(case["series"] for case in everything)
    check_patients(train, calibration)


def test_seeded_and_independent_of_order_and_global_state():
    everything = cases(30)
    np.random.seed(1)
    first = split_calibration(everything, 0.3, 5)[1]
    np.random.seed(2)
    second = split_calibration(everything[::-1], 0.3, 5)[1]
    assert {case["patient"] for case in first} == {case["patient"] for case in second}
    assert {case["patient"] for case in first} != {case["patient"] for case in split_calibration(everything, 0.3, 6)[1]}


def test_fraction_zero_holds_nothing_out():
    assert split_calibration(cases(4), 0, 0) == (cases(4), [])


@pytest.mark.parametrize(("fraction", "seed"), [(1.0, 0), (-0.1, 0), (float("nan"), 0), (0.5, -1)])
def test_bad_options(fraction, seed):
    with pytest.raises(OptionError):
        split_calibration(cases(4), fraction, seed)


def test_copies_stay_on_one_side(tmp_path):
    data = [picture(tmp_path / f"{n}.png", n) for n in range(8)]
    data += [picture(tmp_path / "copy0.png", 0, "RGBA"), picture(tmp_path / "copy1.png", 1, "RGB")]
    for seed in range(20):
        train, calibration = split_calibration(data, 0.3, seed)
        assert not report_duplicates(train, calibration, [])
        assert len(calibration) in (2, 3)


def test_duplicates_and_fingerprint(tmp_path, caplog):
    data = [
        picture(tmp_path / "a.png", 0),
        picture(tmp_path / "b.bmp", 0, "RGB"),
        picture(tmp_path / "c.png", 1),
        picture(tmp_path / "d.tif", 0),
    ]
    assert [[case["series"] for case in group] for group in find_duplicates(data)] == [["a", "b", "d"]]
    caplog.set_level(logging.WARNING)
    assert len(report_duplicates(data[:1], [], data[1:])) == 1 and not report_duplicates(data[:2] + data[3:], data[2:3], [])
    assert "a (a.png) in train = b (b.bmp) in test" in caplog.text
    before = fingerprint(data)
    assert before == fingerprint(data[::-1]) == fingerprint([{**case, "series": "x"} for case in data]) != fingerprint(data[:3])
    picture(tmp_path / "c.png", 2)
    assert fingerprint(data) != before


def test_equal_bytes_of_another_shape_are_another_image(tmp_path):
    data = []
    for name, shape in (("a", (6, 8)), ("b", (8, 6)), ("c", (6, 8))):
        Image.fromarray(np.full(shape, 9, np.uint8)).save(tmp_path / f"{name}.png")
        data.append({"image": str(tmp_path / f"{name}.png"), "series": name})
    assert [[case["series"] for case in group] for group in find_duplicates(data)] == [["a", "c"]]


def test_dicom_duplicates(tmp_path, series):
    series(tmp_path / "a", uid="1.2.3")
    series(tmp_path / "b", uid="1.2.4", order=[4, 3, 2, 1, 0], patient="someone else")
    series(tmp_path / "c", uid="1.2.5", origin=(0, 0, 0))
    assert [len(group) for group in find_duplicates(find_cases(tmp_path).cases)] == [2]


def test_unreadable_files_are_equal_to_none(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"same")
    data = [{"image": str(tmp_path / name), "series": name} for name in ("a.png", "b.png", "gone.png")]
    assert find_duplicates(data) == [] and len(fingerprint(data)) == 64


def test_patient_on_both_sides():
    with pytest.raises(DataError, match=r"1 patient is in training and in test \(p01\)"):
        check_patients(cases(2), cases(3)[1:])


@pytest.mark.real
def test_known_duplicates(shared):
    head = find_cases(shared / "data/head_ct")
    assert [[case["series"] for case in group] for group in find_duplicates(head.cases)] == [["test_good_188", "test_good_189"]]
    brain = find_cases(shared / "data/brain_mri")
    assert len(find_duplicates(brain.cases)) == 22
    crossing = report_duplicates(brain.select("train"), [], brain.select("test"))
    assert {tuple(sorted(case["series"] for case in group)) for group in crossing} == {
        ("test_good_N5", "train_good_4_no"), ("test_good_no_1", "train_good_49_no"), ("test_good_no_94", "train_good_1_no"),
    }  # fmt: skip
    train, calibration = split_calibration(brain.select("train"), 0.2, 0)
    assert not report_duplicates(train, calibration, [])
