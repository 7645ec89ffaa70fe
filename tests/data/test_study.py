"""The built-in study: real DICOM, the same bytes for the same seed, honest labels, written whole."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map
from pydicom.uid import CTImageStorage
from sklearn.metrics import roc_auc_score

from monai_anomaly.data.study import builtin_study, is_builtin_study, write_study
from monai_anomaly.data.study import folder as module
from monai_anomaly.data.study.phantom import make_phantom
from monai_anomaly.errors import DataError, OptionError

SMALL = {("training", "good"): 2, ("testing", "good"): 1, ("testing", "bleed"): 1, ("testing", "mass"): 1}


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study, seed 0, written once for all tests of this file."""
    return write_study(tmp_path_factory.mktemp("study") / "phantom", progress=False)


@pytest.fixture(scope="session")
def cases(study: Path) -> list[dict[str, Any]]:
    datalist = json.loads((study / "datalist.json").read_text(encoding="utf-8"))
    return [{**case, "part": part} for part, entries in datalist.items() for case in entries]


@pytest.fixture(scope="session")
def headers(study: Path, cases: list[dict[str, Any]]) -> dict[str, list[pydicom.Dataset]]:
    return {
        case["series"]: [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((study / case["image"]).iterdir())]
        for case in cases
    }


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENTS", SMALL)


def read_itk(folder: Path) -> Any:
    """The series as ITK reads it by itself, sorted by position."""
    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(folder))
    return itk.imread(list(names.GetInputFileNames()), itk.F)


def digest(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- the same seed, the same bytes


@pytest.mark.usefixtures("small")
def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (digest(write_study(tmp_path / n, seed=s, progress=False)) for n, s in (("a", 5), ("b", 5), ("c", 6)))
    assert len(first) == 5 * 8 + 2 + 2
    assert first == again
    same = {name for name in first.keys() & other.keys() if first[name] == other[name]}
    assert not any(name.endswith(".dcm") for name in same)


def test_a_patient_does_not_depend_on_the_others_and_differs_by_the_lesion_alone() -> None:
    good, bleed = make_phantom(3, 7, "good"), make_phantom(3, 7, "bleed", 3)
    assert good.grid == bleed.grid
    assert not good.mask.any()
    far = ~bleed.mask.any(axis=(1, 2))
    assert np.array_equal(good.hu[far], bleed.hu[far])
    assert not np.array_equal(good.hu[~far], bleed.hu[~far])


# ---- real DICOM


def test_every_file_has_what_the_standard_demands_of_a_ct_image(headers: dict[str, list[pydicom.Dataset]]) -> None:
    modules = [m["key"] for m in get_iod_module_map()["ct-image"] if m["usage"] == "M"]
    assert {"general-image", "image-plane", "image-pixel", "ct-image"} <= set(modules)
    wanted = {
        (a["keyword"], a["type"]) for m in modules for a in get_module_attribute_map()[m] if not a["path"] and a["type"] in ("1", "2")
    }
    assert len(wanted) > 30
    for ds in next(iter(headers.values())):
        assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == CTImageStorage
        assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID
        for keyword, kind in wanted:
            assert keyword in ds, keyword
            assert kind == "2" or ds[keyword].value not in (None, "", []), keyword


def test_values_survive_strict_validation_and_say_that_they_are_made_up(study: Path, cases: list[dict[str, Any]], monkeypatch: Any) -> None:
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    for case in cases[:3]:
        for path in (study / case["image"]).iterdir():
            ds = pydicom.dcmread(path)
            assert all(True for _ in ds.iterall())  # decodes every value
            assert "SYNTHETIC" in ds.SeriesDescription and "SYNTHETIC" in ds.ImageComments
            assert ds.PatientID == case["patient"] and ds.PatientID.startswith("PHANTOM-")
            assert (ds.BurnedInAnnotation, ds.Modality, ds.PatientBirthDate) == ("NO", "CT", "")


def test_uids_are_unique_where_they_must_be_and_shared_where_they_must_be(headers: dict[str, list[pydicom.Dataset]]) -> None:
    everything = [ds for series in headers.values() for ds in series]
    assert len({ds.SOPInstanceUID for ds in everything}) == len(everything) == 640
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert all(len({ds[keyword].value for ds in series}) == 1 for series in headers.values())
        assert len({series[0][keyword].value for series in headers.values()}) == len(headers)
    assert all(ds[k].value.is_valid for ds in everything for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))


def test_itk_reads_regular_series_in_hounsfield_units(study: Path, cases: list[dict[str, Any]]) -> None:
    for case in cases[::9]:
        image = read_itk(study / case["image"])
        slices = sorted((pydicom.dcmread(p) for p in (study / case["image"]).iterdir()), key=lambda ds: ds.ImagePositionPatient[2])
        hu = np.stack([ds.pixel_array.astype(np.float32) * ds.RescaleSlope + ds.RescaleIntercept for ds in slices])
        assert np.array_equal(itk.array_from_image(image), hu)
        assert np.allclose(image.GetSpacing(), [*slices[0].PixelSpacing, slices[0].SliceThickness])
        assert np.allclose(image.GetOrigin(), slices[0].ImagePositionPatient)
        assert np.array_equal(itk.array_from_matrix(image.GetDirection()), np.eye(3))
        steps = np.diff([ds.ImagePositionPatient[2] for ds in slices])
        assert np.allclose(steps, slices[0].SliceThickness, atol=1e-6)
        assert np.median(hu[:, :10]) == pytest.approx(-1000, abs=5)
        assert hu.max() > 700
        brain = hu[(hu > 0) & (hu < 60)]
        assert 22 < np.median(brain) < 42


# ---- masks


def test_masks_lie_on_the_series_in_the_world(study: Path, cases: list[dict[str, Any]]) -> None:
    abnormal = [case for case in cases if "mask" in case]
    for case in abnormal[::5]:
        image, mask = read_itk(study / case["image"]), itk.imread(str(study / case["mask"]), itk.UC)
        assert image.GetLargestPossibleRegion().GetSize() == mask.GetLargestPossibleRegion().GetSize()
        corner = [255, 130, 5]
        here, there = (np.array(i.TransformIndexToPhysicalPoint(corner)) for i in (image, mask))
        assert np.allclose(here, there, atol=1e-3)
        stored = nib.nifti1.load(study / case["mask"])
        ras = stored.affine @ [*corner, 1]
        assert np.allclose(ras[:3], here * [-1, -1, 1], atol=1e-3)
        assert stored.get_data_dtype() == np.uint8
        assert set(np.unique(np.asarray(stored.dataobj))) == {0, 1}
        assert np.array_equal(np.asarray(stored.dataobj), itk.array_from_image(mask).transpose(2, 1, 0))


def test_the_density_inside_a_mask_differs_from_that_around_it(study: Path, cases: list[dict[str, Any]]) -> None:
    differences = {"bleed": [], "mass": []}
    for case in (c for c in cases if "mask" in c):
        hu = itk.array_from_image(read_itk(study / case["image"]))
        mask = itk.array_from_image(itk.imread(str(study / case["mask"]), itk.UC)) > 0
        lit = mask.any(axis=(1, 2))
        assert 2 <= lit.sum() <= 7
        assert mask[lit].sum(axis=(1, 2)).min() >= 20
        brain = (hu[lit] > 0) & (hu[lit] < 60) & ~mask[lit]
        differences[case["group"]].append(float(hu[mask].mean() - np.median(hu[lit][brain])))
    assert min(differences["bleed"]) > 10
    assert min(differences["mass"]) < -5 < 5 < max(differences["mass"])


# ---- the datalist


def test_the_datalist_is_complete_and_splits_by_patient(study: Path, cases: list[dict[str, Any]]) -> None:
    count = {(p, g): sum(c["part"] == p and c["group"] == g for c in cases) for p, g in module.PATIENTS}
    assert count == module.PATIENTS
    assert len({c["patient"] for c in cases}) == len({c["series"] for c in cases}) == len(cases)
    for case in cases:
        assert len(list((study / case["image"]).glob("*.dcm"))) == 8
        assert case["label"] == int(case["group"] != "good") == int("mask" in case)
        assert "mask" not in case or (study / case["mask"]).is_file()
        assert case["part"] == "testing" or case["label"] == 0


def test_monai_reads_the_datalist(study: Path) -> None:
    from monai.data.decathlon_datalist import load_decathlon_datalist

    testing = load_decathlon_datalist(str(study / "datalist.json"), is_segmentation=False, data_list_key="testing", base_dir=str(study))
    assert len(testing) == 44
    assert all(Path(case["image"]).is_dir() for case in testing)


# ---- honest labels


def test_mean_intensity_tells_little(study: Path, cases: list[dict[str, Any]]) -> None:
    score, truth = [], []
    for case in (c for c in cases if c["part"] == "testing"):
        hu = itk.array_from_image(read_itk(study / case["image"]))
        mask = itk.array_from_image(itk.imread(str(study / case["mask"]), itk.UC)) if "mask" in case else np.zeros_like(hu)
        score += list((np.clip(hu, 0, 80) / 80).mean(axis=(1, 2)))
        truth += list(mask.any(axis=(1, 2)))
    assert 100 < sum(truth) < 160
    assert 0.45 < roc_auc_score(truth, score) < 0.65


def test_no_header_field_gives_the_label_away(study: Path, cases: list[dict[str, Any]], headers: dict[str, list[pydicom.Dataset]]) -> None:
    fields: dict[str, list[list[str]]] = {}
    for case in cases:
        first = headers[case["series"]][0]
        assert [ds.InstanceNumber for ds in headers[case["series"]]] == list(range(1, 9))
        for element in first:
            values = [
                v for ds in headers[case["series"]] for v in (ds[element.tag].value if ds[element.tag].VM > 1 else [ds[element.tag].value])
            ]
            fields.setdefault(element.keyword, []).append([str(v) for v in values])
    assert all(len(column) == len(cases) for column in fields.values())
    varying = {name for name, column in fields.items() if len({tuple(v) for v in column}) > 1}
    identity = {"SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientName", "PatientID"}
    assert varying == identity | {"ImagePositionPatient", "SliceLocation", "PixelSpacing", "SliceThickness"}
    testing = [i for i, case in enumerate(cases) if case["part"] == "testing"]
    label = [cases[i]["label"] for i in testing]
    ill = sum(label)
    # 3.5 standard errors of the AUROC of a field without any meaning
    chance = 3.5 * np.sqrt((len(label) + 1) / (12 * ill * (len(label) - ill)))
    for name in ("ImagePositionPatient", "SliceLocation", "PixelSpacing", "SliceThickness"):
        for component in range(len(fields[name][0])):
            assert abs(roc_auc_score(label, [float(fields[name][i][component]) for i in testing]) - 0.5) < chance, name
    assert abs(roc_auc_score(label, [int(cases[i]["patient"][-3:]) for i in testing]) - 0.5) < chance
    sizes = {path.stat().st_size for case in cases for path in (study / case["image"]).iterdir()}
    assert max(sizes) - min(sizes) < 64  # numbers of a digit more or less, nothing else


# ---- the folder


@pytest.mark.usefixtures("small")
def test_builtin_study_honours_the_environment_and_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path / "data"))
    folder = builtin_study()
    assert folder == tmp_path / "data" / "head_ct_phantom"
    assert is_builtin_study(folder)
    written = (folder / "study.json").stat().st_mtime_ns
    assert builtin_study() == folder
    assert (folder / "study.json").stat().st_mtime_ns == written
    monkeypatch.delenv("MONAI_DATA_DIRECTORY")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert builtin_study() == tmp_path / "cache" / "monai_anomaly" / "head_ct_phantom"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["version", "file", "marker"])
def test_builtin_study_is_written_anew_when_it_is_not_the_present_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path))
    folder = builtin_study()
    before = digest(folder)
    if damage == "version":
        monkeypatch.setattr(module, "VERSION", "next")
    elif damage == "file":
        next(folder.glob("series/*/CT-003.dcm")).unlink()
    else:
        (folder / "study.json").write_text('{"generator": "monai_anomaly head CT phantom"}', encoding="utf-8")
    assert builtin_study() == folder
    after = digest(folder)
    assert (after == before) == (damage != "version")
    assert after.keys() == before.keys()
    assert [p.name for p in tmp_path.iterdir()] == ["head_ct_phantom"]


@pytest.mark.usefixtures("small")
def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match="not a built-in study"):
        write_study(tmp_path, progress=False)
    with pytest.raises(DataError, match="not a built-in study"):
        write_study(tmp_path / "mine.txt", progress=False)
    (tmp_path / "study.json").write_text('{"title": "my own study"}', encoding="utf-8")
    with pytest.raises(DataError, match="not a built-in study"):
        write_study(tmp_path, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.txt", "study.json"]
    assert not is_builtin_study(tmp_path)


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="seed -1"):
        write_study(tmp_path / "study", seed=-1)


@pytest.mark.usefixtures("small")
def test_an_interrupted_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_mask", stop)
    with pytest.raises(KeyboardInterrupt):
        write_study(tmp_path / "study", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small")
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="MONAI_DATA_DIRECTORY"):
        write_study(tmp_path / "file" / "study", progress=False)


@pytest.mark.usefixtures("small")
def test_several_at_once_get_one_whole_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_DATA_DIRECTORY", str(tmp_path))
    old = builtin_study()
    monkeypatch.setattr(module, "VERSION", "next")  # the hard case: all of them replace the same old study
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: builtin_study(), range(4)))
    assert found == {old}
    assert module._is_whole(old, seed=0)
    assert [p.name for p in tmp_path.iterdir()] == ["head_ct_phantom"]


@pytest.mark.slow
def test_two_processes_at_once_both_succeed(tmp_path: Path) -> None:
    code = f"from monai_anomaly.data.study import folder; folder.PATIENTS = {SMALL!r}; print(folder.builtin_study())"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "MONAI_DATA_DIRECTORY": str(tmp_path), "PYTHONPATH": root}
    pair = [subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0].strip() for process in pair]
    assert printed == [str(tmp_path / "head_ct_phantom")] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["head_ct_phantom"]
