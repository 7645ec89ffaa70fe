"""Finding cases: layouts, counts, names, and what is refused."""

from __future__ import annotations

import logging
import re
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from support.dicom import make_series

from monai_anomaly.data import find_case, find_cases
from monai_anomaly.data.cases import case_files
from monai_anomaly.errors import DataError


def picture(path, seed=0, form="PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8), dtype=np.uint8)).save(path, format=form)


def counts_add_up(found):
    return found.found == sum(len(case_files(case)) for case in found.cases) + sum(refusal.files for refusal in found.refused)


@pytest.fixture
def layout(tmp_path):
    for n, name in enumerate(["train/good/1.png", "train/good/2.jpg", "test/good/3.bmp", "test/bleed/4 a.png", "test/bleed/deep/5.tif"]):
        picture(tmp_path / name, n, {"png": "PNG", "jpg": "PNG", "bmp": "BMP", "tif": "TIFF"}[name[-3:]])
    picture(tmp_path / "ground_truth/bleed/4 a_mask.png")
    picture(tmp_path / "ground_truth/bleed/deep/5.png")
    (tmp_path / "labels.csv").write_text("id,label\n")
    return tmp_path


def test_anomaly_layout(layout, caplog):
    caplog.set_level(logging.INFO)
    found = find_cases(layout)
    assert found.found == 5 and not found.refused and counts_add_up(found)
    rows = [
        (case["series"], case["patient"], case["split"], case["group"], case["label"], case.get("mask", "")[len(str(layout)) :])
        for case in found.cases
    ]
    assert rows == [
        ("test_bleed_4_a", "test_bleed_4_a", "test", "bleed", 1, "/ground_truth/bleed/4 a_mask.png"),
        ("test_bleed_deep_5", "test_bleed_deep_5", "test", "bleed", 1, "/ground_truth/bleed/deep/5.png"),
        ("test_good_3", "test_good_3", "test", "good", 0, ""),
        ("train_good_1", "train_good_1", "train", "good", 0, ""),
        ("train_good_2", "train_good_2", "train", "good", 0, ""),
    ]
    assert len(found.select(split="test", label=0)) == 1
    assert re.search("Found 5 files in .*: 5 read as 5 cases .2 train, 3 test., 0 refused", caplog.text)


def test_bad_files_are_refused_and_counted(layout):
    (layout / "train/good/empty.png").touch()
    (layout / "train/good/cut.png").write_bytes(b"\x89PNG\r\n\x1a\n123")
    (layout / "test/good/what.xyz").write_bytes(b"nothing known")
    (layout / "test/good/notes.txt").write_text("a side file")
    (layout / "test/good/.hidden.png").write_bytes(b"x")
    picture(layout / "astray.png")
    found = find_cases(layout)
    assert {refusal.where for refusal in found.refused} == {
        "train/good/empty.png",
        "train/good/cut.png",
        "test/good/what.xyz",
        "astray.png",
    }
    assert found.found == 9 and len(found.cases) == 5 and counts_add_up(found)


def test_abnormal_in_training(layout):
    picture(layout / "train/bleed/9.png")
    with pytest.raises(DataError, match=r"1 files in bleed/; expected train/good only"):
        find_cases(layout)


def test_flat_folder_of_images_and_series(tmp_path, series):
    picture(tmp_path / "b/2.png")
    picture(tmp_path / "b/2.jpg")
    folder = series(tmp_path / "a", uid="1.2.3", order=[2, 0, 1], n=3)
    series(tmp_path / "a2", uid="1.2.4", n=2)
    (tmp_path / "a" / "notes.txt").write_text("x")
    found = find_cases(tmp_path)
    assert found.found == 7 and counts_add_up(found)
    assert [case["split"] for case in found.cases] == ["test"] * 4 and not any("label" in case for case in found.cases)
    assert [len(case_files(case)) for case in found.cases] == [3, 2, 1, 1]
    assert [name.rsplit("/", 1)[1] for name in found.cases[0]["image"]] == ["IM0002", "IM0000", "IM0001"]  # by position
    assert str(folder) in found.cases[0]["image"][0]
    assert [case["series"] for case in found.cases][2:] == ["b_2", "b_2-2"]
    first, second = found.cases[:2]
    assert first["patient"] == second["patient"] and re.fullmatch("p-[0-9a-f]{12}", first["patient"])
    assert first["series"] != second["series"] and re.fullmatch("s-[0-9a-f]{12}", first["series"])


def test_series_in_one_folder_are_kept_apart(tmp_path, series):
    series(tmp_path, uid="1.2.3", n=3)
    series(tmp_path, uid="1.2.4", n=4, order=[10, 11, 12, 13], shape=(5, 5))
    assert sorted(len(case["image"]) for case in find_cases(tmp_path).cases) == [3, 4]


@pytest.mark.parametrize("beside", [[], [".DS_Store", "__MACOSX/scans/._1.png"]])
def test_an_archive_of_a_folder_keeps_its_layout(layout, tmp_path_factory, monkeypatch, beside):
    outside = tmp_path_factory.mktemp("packed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(outside / "cache"))
    expected = [(case["series"], case["split"], case["label"], "mask" in case) for case in find_cases(layout).cases]
    for depth in ("", "scans/", "export/scans/"):
        with zipfile.ZipFile(outside / f"{depth.count('/')}.zip", "w") as archive:
            for path in sorted(layout.rglob("*.*")):
                archive.write(path, f"{depth}{path.relative_to(layout)}")
            for name in beside:
                archive.writestr(name, b"Finder's")
        found = find_cases(outside / f"{depth.count('/')}.zip")
        assert [(case["series"], case["split"], case["label"], "mask" in case) for case in found.cases] == expected


def test_an_archive_without_a_layout_keeps_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture(tmp_path / "scans/1.png")
    shutil.make_archive(str(tmp_path / "scans"), "zip", tmp_path, "scans")
    assert [case["series"] for case in find_cases(tmp_path / "scans.zip").cases] == ["scans_1"]


def test_of_two_folders_in_an_archive_none_is_taken_for_the_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        picture(tmp_path / f"two/{name}/train/good/1.png")
    shutil.make_archive(str(tmp_path / "two"), "zip", tmp_path / "two")
    assert [case["split"] for case in find_cases(tmp_path / "two.zip").cases] == ["test", "test"]


@pytest.mark.parametrize("name", ["DOE.MD", "scan.log", "report.pdf", "1.dcm"])
def test_a_dicom_file_is_read_whatever_it_is_called(tmp_path, series, name):
    series(tmp_path, n=1)
    (tmp_path / "IM0000").rename(tmp_path / name)
    assert find_cases(tmp_path).found == 1
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:400])
    (tmp_path / "DICOMDIR2").write_bytes(bytes(128) + b"DICM")
    picture(tmp_path / "1.png")
    found = find_cases(tmp_path)
    assert found.found == 2 and [refusal.where for refusal in found.refused] == [name]


def remove(tag):
    return lambda dataset, k: delattr(dataset, tag)


def at(number, **values):
    def change(dataset, k):
        if k == number:
            for tag, value in values.items():
                setattr(dataset, tag, value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            at(2, ImagePositionPatient=[-10, 20, -25.5]),
            "not evenly spaced: 2.500 mm expected, (3.000|2.000) mm found between instance . and instance .",
        ),
        (at(2, ImagePositionPatient=[-10, 20, -27.5]), "5 slices lie at only 4 positions: instance 2 and instance 3 share one"),
        (at(2, ImagePositionPatient=[-9, 20, -25]), "shifted against each other: instance 3 lies 1.000 mm beside"),
        (at(2, ImageOrientationPatient=[1, 0, 0, 0, 0.995004, 0.099833]), "instance 3 is tilted by 5.7 degrees against instance 1"),
        (at(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "5.000 mm found between instance 2 and instance 4"),
        (
            at(2, PixelSpacing=[0.5, 0.9]),
            r"instance 3 \(12 x 9 pixels of 0.5 x 0.9 mm\) differs from instance 1 \(12 x 9 pixels of 0.5 x 0.8 mm\)",
        ),
        (at(2, FrameOfReferenceUID="1.2.9"), "instance 3 has another frame of reference than instance 1"),
        (at(2, Modality="MR"), "5 slices of one series are of modalities CT, MR"),
        (remove("ImagePositionPatient"), "ImagePositionPatient is missing"),
        (remove("PixelSpacing"), "PixelSpacing is missing"),
        (remove("PixelData"), "no pixel data"),
        (remove("Rows"), "Rows is missing"),
        (remove("RescaleSlope"), "no RescaleSlope"),
        (at(2, NumberOfFrames=3), "holds 216 bytes of pixels; expected 648"),
        (at(2, PhotometricInterpretation="HSV"), "The pixels are HSV"),
        (at(2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "a localizer"),
        (at(2, Modality="SEG"), "modality SEG"),
        (at(2, ImageOrientationPatient=[1, 1, 0, 0, 1, 0]), "perpendicular"),
        (at(2, PixelSpacing=[0, 0.8]), "positive distances"),
    ],
)
def test_irregular_series_are_refused_with_the_numbers(tmp_path, series, change, words):
    series(tmp_path / "a", change=change)
    picture(tmp_path / "1.png")
    found = find_cases(tmp_path)
    assert found.found == 6 and counts_add_up(found)
    assert any(re.search(words, refusal.reason) for refusal in found.refused), found.refused


def test_missing_slice(tmp_path, series):
    series(tmp_path / "a")
    (tmp_path / "a/IM0002").unlink()
    picture(tmp_path / "1.png")
    found = find_cases(tmp_path)
    (refusal,) = found.refused
    assert refusal.files == 4 and counts_add_up(found)
    assert "2.500 mm expected, 5.000 mm found between instance 2 and instance 4 (slices 2 and 3 of 4 by position)" in refusal.reason


def test_no_identifier_in_any_message(tmp_path, series, caplog):
    caplog.set_level(logging.DEBUG)
    series(tmp_path / "a", change=at(2, ImagePositionPatient=[-10, 20, -27.5]), patient="Mustermann^Erika")
    series(tmp_path / "b", patient="Mustermann^Erika", uid="1.2.345.678")
    found = find_cases(tmp_path)
    assert len(found.refused) == 1 and len(found.cases) == 1
    assert "Mustermann" not in caplog.text + str(found) and "1.2.345.678" not in caplog.text + str(found)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: (path.mkdir(), (path / "readme.txt").touch())])
def test_nothing_there(tmp_path, make):
    make(tmp_path / "data")
    with pytest.raises(DataError, match="expected image files"):
        find_cases(tmp_path / "data")


def test_a_link_that_leads_back(tmp_path):
    picture(tmp_path / "a/1.png")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert find_cases(tmp_path).found == 1


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "train", "good", "bad", "masks"),
    [("head_ct", 60, 40, 100, 0), ("brain_mri", 58, 40, 155, 0), ("busi", 30, 15, 40, 40), ("oct_srf", 10, 5, 15, 0)],
)
def test_real_sets(shared, name, train, good, bad, masks):
    found = find_cases(shared / "data" / name)
    assert found.found == train + good + bad and not found.refused
    assert (len(found.select("train")), len(found.select("test", 0)), len(found.select("test", 1))) == (train, good, bad)
    assert sum("mask" in case for case in found.cases) == masks
    assert len({case["series"].casefold() for case in found.cases}) == found.found


@pytest.mark.real
def test_two_time_points_are_refused(shared):
    with pytest.raises(DataError, match="30 slices lie at only 15 positions"):
        find_cases(shared / "data/dicom/mr_ge_epi_4d")


@pytest.mark.real
def test_all_the_dicom_oddities_add_up(shared):
    found = find_cases(shared / "data/dicom")
    assert counts_add_up(found) and found.found > 250


def test_one_case_has_the_names_that_its_folder_gives_it(tmp_path):
    picture(tmp_path / "data" / "scan 7.png")
    make_series(tmp_path / "data" / "Doe_John", n=3)
    (tmp_path / "data" / "Doe_John" / "notes.txt").write_text("side files do not count")
    one, series = sorted(find_cases(tmp_path / "data").cases, key=lambda case: len(case_files(case)))
    for path, case, n_files in ((tmp_path / "data" / "scan 7.png", one, 1), (tmp_path / "data" / "Doe_John", series, 3)):
        found = find_case(path)
        assert found.cases == (case,) and found.select("test") == [case] and found.found == n_files and counts_add_up(found)


def test_one_case_is_refused_as_a_whole(tmp_path):
    for folder in ("two", "odd", "none"):
        (tmp_path / folder).mkdir()
    picture(tmp_path / "two" / "1.png")
    picture(tmp_path / "two" / "2.png")
    make_series(tmp_path / "odd", n=3)
    (tmp_path / "odd" / "IM0009").write_bytes(b"no image")
    for name, why in (("two", "holds 2 images"), ("odd", "IM0009"), ("none", "holds 0 images"), ("nowhere", "no file or folder")):
        with pytest.raises(DataError, match=why):
            find_case(tmp_path / name)
