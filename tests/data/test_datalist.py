"""MONAI's datalist JSON, as a stranger may have written it."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest
from PIL import Image

from monai_anomaly.data import datalist as module
from monai_anomaly.data import find_cases, read_datalist, write_datalist
from monai_anomaly.errors import DataError


@pytest.fixture
def folder(tmp_path, series):
    for name in ("1.png", "2.png", "m.png"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
    series(tmp_path / "ct", n=3, order=[2, 1, 0])
    return tmp_path


def write(folder, content):
    path = folder / "datalist.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_reads_all_kinds_of_cases(folder):
    write(
        folder,
        {
            "name": "a study",
            "training": [{"image": "1.png", "patient": "A/b c"}, {"image": "ct", "series": "scan", "label": 0}],
            "testing": [
                {"image": "2.png", "label": 1, "mask": "m.png", "group": "mass"},
                "1.png",
                {"image": ["ct/IM0000", "ct/IM0001", "ct/IM0002"]},
            ],
        },
    )
    found = find_cases(folder)
    assert found.found == 1 + 3 + 1 + 1 + 3 and not found.refused
    a, ct, b, c, again = found.cases
    assert (a["patient"], a["label"], a["split"]) == ("A_b_c", 0, "train")
    assert ct["series"] == "scan" and [os.path.basename(name) for name in ct["image"]] == ["IM0002", "IM0001", "IM0000"] == [
        os.path.basename(name) for name in again["image"]
    ]
    assert (b["label"], b["mask"], b["group"], b["split"]) == (1, str(folder / "m.png"), "mass", "test")
    assert "label" not in c and len({case["series"] for case in found.cases}) == 5


def test_a_training_case_is_normal_unless_its_mask_has_to_tell(folder):
    training = [
        {"image": "1.png"}, "1.png", {"image": "1.png", "mask": None}, {"image": "1.png", "mask": "m.png", "label": 0}, {"image": "1.png", "mask": "m.png"},
    ]  # fmt: skip
    found = read_datalist(write(folder, {"training": training, "testing": [{"image": "2.png", "mask": "m.png"}]}))
    assert [case.get("label") for case in found.cases] == [0, 0, 0, 0, None, None]
    again = read_datalist(write_datalist(folder / "again.json", found.cases))
    assert [case.get("label") for case in again.cases] == [0, 0, 0, 0, None, None]


@pytest.mark.parametrize(
    ("entry", "words", "files"),
    [
        ({"image": "gone.png"}, "cannot be opened", 1),
        ({"image": "a\0b.png"}, "null", 1),
        ({"image": "x" * 5000}, "cannot be opened|name too long", 1),
        ({"image": 7}, "neither a path", 1),
        ({"image": []}, "neither a path", 1),
        ({"image": ["1.png", "2.png"]}, "2 images", 2),
        ({}, 'no "image"', 1),
        (3, "is a int", 1),
        (None, "NoneType", 1),
        ({"image": "1.png", "label": "0"}, "neither 0", 1),
        ({"image": "1.png", "label": True}, "neither 0", 1),
        ({"image": "1.png", "label": 2}, "neither 0", 1),
        ({"image": "1.png", "label": [1]}, "neither 0", 1),
        ({"image": "1.png", "patient": 12}, '"patient" is a int', 1),
        ({"image": "1.png", "series": " "}, "not empty", 1),
        ({"image": "1.png", "mask": "gone.png"}, "mask 'gone.png'", 1),
        ({"image": "1.png", "mask": 1}, '"mask" is a int', 1),
        ({"image": "1.png", "mask": "."}, "The mask '.': A folder was found where a file is expected", 1),
        ({"image": "1.png", "split": "train"}, '"split" contradicts', 1),
        ({"image": "ct", "mask": "gone.nii"}, "mask 'gone.nii'", 3),
    ],
)
def test_one_bad_case_is_refused_and_the_rest_goes_on(folder, entry, words, files):
    found = read_datalist(write(folder, {"testing": [{"image": "1.png"}, entry]}))
    assert len(found.cases) == 1
    (refusal,) = found.refused
    assert refusal.where == "testing[1]" and refusal.files == files and found.found == 1 + files
    assert re.search(words, refusal.reason), refusal.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "no section"),
        ('{"a": 1}', "no section"),
        ('{"training": 3}', "is a int; expected a list"),
        ("[" * 100_000, "cannot be read"),
        ({"training": [{"image": "1.png", "label": 1}]}, "label 1; expected normal"),
        ({"testing": [{"image": "1.png", "series": "a"}, {"image": "2.png", "series": "a"}]}, "occurs 2 times"),
    ],
)
def test_what_is_no_datalist(folder, content, words):
    with pytest.raises(DataError, match=words):
        read_datalist(write(folder, content))


def test_size_is_bounded(folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="larger than"):
        read_datalist(write(folder, '{"training": []' + " " * 200 + "}"))


def test_absent_and_not_text(folder):
    with pytest.raises(DataError, match="cannot be read"):
        read_datalist(folder / "no.json")
    (folder / "bad.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(DataError, match="cannot be read"):
        find_cases(folder / "bad.json")


def test_no_name_leads_out_of_a_folder(folder):
    found = read_datalist(write(folder, {"testing": [{"image": "1.png", "series": "../../etc/x", "patient": "/abs\\x"}]}))
    assert found.cases[0]["series"] == "etc_x" and found.cases[0]["patient"] == "abs_x"


def test_round_trip(folder):
    write(
        folder,
        {
            "training": [{"image": "1.png", "patient": "a"}],
            "testing": [{"image": "ct", "label": 1}, {"image": "2.png", "mask": "m.png", "label": 1}],
        },
    )
    found = read_datalist(folder / "datalist.json")
    path = write_datalist(folder / "again.json", found.cases)
    assert str(folder) not in path.read_text()
    assert read_datalist(path).cases == found.cases
    assert [p.name for p in folder.glob(".*")] == []


def test_cannot_be_written(folder):
    (folder / "file").write_text("not a folder")
    with pytest.raises(DataError, match="could not be written"):
        write_datalist(folder / "file" / "datalist.json", [])
