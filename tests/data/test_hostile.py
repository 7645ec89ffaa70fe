"""Folders as they come: locked, vanished, misnamed and mislabelled files. The rest is read, the counts add up, and names are safe."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support.broken import encoded, put
from support.bundles import run_bundle
from support.dicom import make_series
from support.permissions import permissions_hold
from support.reading import adds_up, is_sentence, verdicts, write_good
from support.tiny import write_image_folder

from monai_anomaly.data import SliceDataset, check_patients, find_cases
from monai_anomaly.errors import DataError


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_may_not_be_read(tmp_path, kind, request):
    locked = write_good(tmp_path) / "locked"
    if kind == "folder":
        write_good(locked)
    else:
        locked.write_bytes(encoded("PNG"))
    locked.chmod(0)
    request.addfinalizer(lambda: locked.chmod(0o700))
    with permissions_hold():
        arrays, reasons = verdicts(tmp_path)
    assert not arrays and len(reasons) == 1 and "permission" in reasons[0].lower()


def test_a_file_that_is_gone_when_it_is_read(tmp_path, chain):
    make_series(write_good(tmp_path), n=3)
    found = find_cases(tmp_path)
    (tmp_path / "IM0001").unlink()
    dataset = SliceDataset(list(found.cases), chain(16), 16, keep=False)
    refused = {sample["refused"] for sample in map(dataset.__getitem__, range(len(dataset)))}
    assert "" in refused and len(refused) == 2 and all(is_sentence(reason) for reason in refused if reason)


@pytest.mark.parametrize("kind", ["link to nothing", "named pipe", "folder called like a file", "zip archive that is none"])
def test_what_is_no_file(tmp_path, kind, request):
    write_good(tmp_path)
    bad = tmp_path / "bad.dcm"
    if kind == "link to nothing":
        bad.symlink_to(tmp_path / "nowhere")
    elif kind == "named pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        os.mkfifo(bad)
        signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waits for somebody to write into the pipe"))
        signal.alarm(10)
        request.addfinalizer(lambda: signal.alarm(0))
    elif kind == "folder called like a file":
        bad.mkdir()
    else:
        (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    arrays, reasons = verdicts(tmp_path)
    assert not arrays and len(reasons) == (kind != "folder called like a file") and all(map(is_sentence, reasons))


IDENTIFIERS = {
    "up the tree": "../../etc/passwd", "up the tree, the other way": "..\\..\\windows", "absolute": "/etc/passwd", "nul": "a\0b", "newline": "a\nb\r\nc",
    "device": "CON", "device with a suffix": "nul.txt", "dots": "..", "long": "x" * 10_000, "unicode": "Ärztin^Ζωή 患者 \u202eevil", "blank": " ",
    "colon": "a:b*?<>|",
    "surrogate": "\udcff", "format": "%s%n{0}", "html": "<script>alert(1)</script>",
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTIFIERS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what the test asks for
def test_hostile_identifiers_make_safe_names(tmp_path, name):
    hostile = IDENTIFIERS[name]

    value = hostile.encode("utf-8", "surrogateescape")
    make_series(write_good(tmp_path), n=3, change=lambda dataset, k: setattr(dataset, "SpecificCharacterSet", "ISO_IR 192"))
    for path in tmp_path.glob("IM*"):
        content = path.read_bytes()
        for keyword, vr in (
            ("PatientName", "PN"),
            ("PatientID", "LO"),
            ("StudyInstanceUID", "UI"),
            ("SeriesInstanceUID", "UI"),
            ("AccessionNumber", "SH"),
        ):
            content = put(content, keyword, vr, value + b" " * (len(value) % 2))
        path.write_bytes(content)
    found = find_cases(tmp_path)
    assert adds_up(found) and len(found.cases) == 2, found.refused
    for case in found.cases:
        for key in ("patient", "series"):
            assert case[key] and len(case[key]) <= 100 and case[key] == Path(case[key]).name and case[key].strip(". ") == case[key]
            assert case[key].isascii() and case[key].isprintable() and not set(case[key]) & set('\\/:*?"<>|%')
    arrays, _ = verdicts(tmp_path)
    assert [array.shape for array, _ in arrays.values()] == [(12, 9, 3)]


@pytest.mark.parametrize("name", ["nul\nnewline.png", "-rf.png", "%s{0}.png", "x" * 240 + ".png", "Ζωή 患者.png", "con.png", "\udcff.png"])
def test_hostile_file_names(tmp_path, name):
    folder, content = write_good(tmp_path), encoded("PNG")
    try:
        (folder / name).write_bytes(content)
    except OSError:
        pytest.skip("this file system does not take the name")
    found = find_cases(tmp_path)
    assert adds_up(found) and len(found.cases) == 2
    for case in found.cases:
        assert case["series"] == Path(case["series"]).name and len(case["series"]) <= 100 and "\n" not in case["series"]
        case["series"].encode()  # can be written into a table
    assert len(verdicts(tmp_path)[0]) == 1


@pytest.mark.parametrize("make", [
    lambda path: Image.new("L", (20, 20), 77).save(path.with_suffix(".png")),
    lambda path: nib.Nifti1Image(np.full((6, 7, 2), 5, np.float32), np.eye(4)).to_filename(path.with_suffix(".nii")),
    lambda path: make_series(path, n=2, pixels=np.full((12, 9, 2), -1000.0)),
])  # fmt: skip
def test_a_constant_image_is_an_empty_slice(tmp_path, chain, make):
    make(tmp_path / "constant")
    dataset = SliceDataset(list(find_cases(tmp_path).cases), chain(16), 16, keep=False)
    assert all(
        sample["empty"] and not sample["refused"] and np.isfinite(sample["image"]).all()
        for sample in map(dataset.__getitem__, range(len(dataset)))
    )


def test_a_mask_of_another_size_is_refused_and_the_rest_goes_on(tmp_path, chain):
    for name in ("a", "b"):
        (tmp_path / "test/bleed").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"test/bleed/{name}.png").write_bytes(encoded("PNG"))
    (tmp_path / "ground_truth/bleed").mkdir(parents=True)
    Image.fromarray(np.full((16, 16), 255, np.uint8)).save(tmp_path / "ground_truth/bleed/a_mask.png")
    Image.fromarray(np.full((9, 16), 255, np.uint8)).save(tmp_path / "ground_truth/bleed/b_mask.png")
    dataset = SliceDataset(list(find_cases(tmp_path).cases), chain(16), 16, keep=False)
    first, second = dataset[0]["refused"], dataset[1]["refused"]
    assert first == "" and is_sentence(second) and "9" in second and "16" in second


def test_abnormal_scans_in_the_training_folder(tmp_path):
    make_series(tmp_path / "train/good/a")
    make_series(tmp_path / "train/bleed/b")
    with pytest.raises(DataError, match=r"bleed/; expected train/good only"):
        find_cases(tmp_path)


def test_a_folder_without_anything(tmp_path):
    (tmp_path / "deep/deeper").mkdir(parents=True)
    with pytest.raises(DataError, match="nothing usable") as caught:
        find_cases(tmp_path)
    assert is_sentence(str(caught.value))
    make_series(tmp_path / "deep", n=1, change=lambda dataset, k: delattr(dataset, "PixelData"))
    with pytest.raises(DataError, match="1 files found; the first of 1 refused: deep/IM0000: The file has no pixel data"):
        find_cases(tmp_path)


def test_one_patient_on_both_sides(tmp_path):
    make_series(tmp_path / "train/good/a", patient="P1")
    make_series(tmp_path / "test/bleed/b", patient="P1")
    make_series(tmp_path / "test/good/c", patient="P2")
    found = find_cases(tmp_path)
    with pytest.raises(DataError, match="1 patient is in training and in test") as caught:
        check_patients(found.select("train"), found.select("test"))
    assert is_sentence(str(caught.value)) and "P1" not in str(caught.value)


def test_fewer_images_than_a_batch(tmp_path):
    """Three normal images train in one small batch; a single one cannot be held out, and the sentence says so."""
    write_image_folder(tmp_path / "three", n_train=3, n_test=2)
    flags = {"image_size": 64, "epochs": 1, "batch_size": 16, "teacher_weights": "random", "backbone": "resnet18"}
    run_bundle("train", dataset_dir=str(tmp_path / "three"), output_dir=str(tmp_path / "out"), **flags)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (
        record["data"]["train"]["slices"] == 2 and record["data"]["calibration"]["slices"] == 1 and np.isfinite(record["epochs"][0]["loss"])
    )
    write_image_folder(tmp_path / "one", n_train=1, n_test=2)
    with pytest.raises(DataError, match="1 normal patients cannot be parted"):
        run_bundle("train", dataset_dir=str(tmp_path / "one"), output_dir=str(tmp_path / "none"), **flags)
    assert not (tmp_path / "none").exists()
