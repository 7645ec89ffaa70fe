"""A folder of studies as data store: what is in it, names that lead elsewhere, and processes that write at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from support.bulk import write_mixed
from support.label import client, make_app, refusal, untrained

from monai_anomaly.errors import DataError
from monai_anomaly.label.normal import is_empty_mask
from monai_anomaly.label.refusals import RequestError
from monai_anomaly.label.studies import StudyFolder, check_name

BAD_NAMES = ["..", "../x", "a/b", "a\\b", "/etc/x", ".hidden", "\0", "."]


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = write_mixed(tmp_path / "studies")
    shutil.copytree(folder / "ct0", folder / "1.2.826.0.1.3680043.10.7")
    shutil.copy(folder / "ct0" / "IM0000", folder / "single.dcm")
    (folder / "notes.txt").write_text("not a study")
    (folder / "empty").mkdir()
    (folder / "pictures").mkdir()
    shutil.copy(folder / "a0.png", folder / "pictures")
    return folder


def test_files_and_folders_of_a_series_are_studies(folder):
    store = StudyFolder(folder)
    pictures = [path.stem for path in folder.glob("*.png")]
    assert store.list_images() == sorted([*pictures, "d0", "d1", "ct0", "ct1", "1.2.826.0.1.3680043.10.7", "single"])
    assert store.get_image_uri("1.2.826.0.1.3680043.10.7") == str(folder / "1.2.826.0.1.3680043.10.7")
    assert store.get_image_uri("d0") == str(folder / "d0.nii.gz") and store.get_image_uri("single") == str(folder / "single.dcm")


def test_what_comes_and_goes_is_seen(folder, monkeypatch):
    monkeypatch.setattr("monai_anomaly.label.studies.LOOK_S", 0.0)
    store = StudyFolder(folder)
    (folder / "late").mkdir()
    assert "late" not in store.list_images()
    for file in (folder / "ct1").iterdir():
        shutil.copy(file, folder / "late")
    assert "late" in store.list_images() and store.get_image_uri("late") == str(folder / "late")
    shutil.rmtree(folder / "ct1")
    (folder / "d0.nii.gz").unlink()
    assert not {"ct1", "d0"} & set(store.list_images())
    with pytest.raises(RequestError, match="no study called 'd0'"):
        store.get_image_uri("d0")


def test_two_files_of_one_name_are_one_study_and_it_is_said(folder, caplog):
    shutil.copy(folder / "d0.nii.gz", folder / "a0.nii.gz")
    store = StudyFolder(folder)
    assert store.list_images().count("a0") == 1 and "a0.png is left out: a0.nii.gz has the same name" in caplog.text
    assert store.get_image_uri("a0") == str(folder / "a0.nii.gz")


def test_labels_keep_dots_in_names_and_survive(folder):
    store, study = StudyFolder(folder), "1.2.826.0.1.3680043.10.7"
    mask = folder.parent / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), mask)
    store.save_label(study, str(mask), "final", {"label_info": []})
    assert store.get_label_uri(study, "final") == str(folder / "labels" / "final" / f"{study}.nii.gz")
    other = StudyFolder(folder)
    assert (
        study not in other.get_unlabeled_images()
        and other.get_labeled_images() == [study]
        and other.get_image_info(study)["normal"] is True
    )
    assert set(other.list_images()) == set(store.list_images())  # labels are no studies


def test_two_processes_lose_nothing_of_each_other(folder):
    server, job = StudyFolder(folder), StudyFolder(folder)
    server.update_image_info("d0", {"normal": True})
    job.update_image_info("d1", {"anomaly": {"skipts": {"score": 1.0}}})
    job.update_image_info("d0", {"anomaly": {"skipts": {"score": 2.0}}})
    mask = folder.parent / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), mask)
    server.save_label("d1", str(mask), "final", {})
    job.update_image_info("ct0", {"seen": 1})
    for store in (server, job, StudyFolder(folder)):
        assert store.get_image_info("d0")["normal"] is True and store.get_image_info("d0")["anomaly"]["skipts"]["score"] == 2.0
        assert store.get_image_info("d1")["normal"] is False and store.get_image_info("d1")["anomaly"]["skipts"]["score"] == 1.0
        assert store.get_labeled_images() == ["d1"] and store.get_image_info("ct0")["seen"] == 1


@pytest.mark.parametrize("name", [*BAD_NAMES, ""])
def test_names_that_lead_elsewhere_are_none(name):
    with pytest.raises(RequestError, match="is no name here"):
        check_name(name)


def test_nothing_is_written_outside_of_the_folder(folder, tmp_path):
    untrained(make_app(tmp_path / "app") / "bundles", "skipts")
    studies, outside = StudyFolder(folder).list_images(), {path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)}
    image = {"file": ("x.png", (folder / "a0.png").read_bytes())}
    label = {"label": ("x.nii.gz", (folder / "d0.nii.gz").read_bytes())}
    with client(tmp_path / "app", folder) as server:
        for name in BAD_NAMES:
            assert "is no name here" in refusal(server.put("/datastore/image", params={"image": name}, files=image), 404)
            assert "is no name here" in refusal(server.put("/datastore/label", params={"image": "d0", "tag": name}, files=label), 404)
            assert "no study called" in refusal(server.put("/datastore/label", params={"image": name, "tag": "final"}, files=label), 404)
            assert "no study called" in refusal(server.put("/datastore/image/info", params={"image": name}, data={"info": "{}"}), 404)
            assert "no study called" in refusal(server.get("/datastore/image", params={"image": name}), 404)
            assert "no study called" in refusal(server.delete("/datastore/image", params={"id": name}), 404)
    new = {path for path in tmp_path.rglob("*") if not path.is_relative_to(folder)} - outside
    assert new == {tmp_path / "app" / "model", tmp_path / "app" / "model" / "skipts"} and StudyFolder(folder).list_images() == studies


def test_what_is_not_there_is_said(folder, tmp_path):
    with client(make_app(tmp_path / "app"), folder) as server:
        told = refusal(server.put("/datastore/label/info", params={"label": "no", "tag": "final"}, data={"info": "{}"}), 404)
        assert "no study called 'no'" in told
        told = refusal(server.put("/datastore/label/info", params={"label": "a0", "tag": "final"}, data={"info": "{}"}), 404)
        assert "'a0' has no label 'final'" in told
        assert server.delete("/datastore/image", params={"id": "a0"}).status_code == 200 and not (folder / "a0.png").exists()
        assert "no study called 'a0'" in refusal(server.delete("/datastore/image", params={"id": "a0"}), 404)


def test_an_upload_becomes_a_study(folder, tmp_path):
    with client(make_app(tmp_path / "app"), folder) as server:
        image = {"file": ("scan.png", (folder / "a0.png").read_bytes())}
        assert server.put("/datastore/image", params={"image": "new"}, files=image).json() == {"image": "new"}
        assert "new" in server.get("/datastore/?output=all").json()["objects"] and (folder / "new.png").is_file()


def test_an_upload_takes_the_place_of_another_image_and_of_nothing_else(folder, tmp_path):
    mask = {"label": ("x.nii.gz", (folder / "d0.nii.gz").read_bytes())}
    with client(make_app(tmp_path / "app"), folder) as server:
        assert server.put("/datastore/label", params={"image": "a0", "tag": "final"}, files=mask).status_code == 200
        record = (folder / "datastore_v2.json").read_bytes()
        for name, file in (("datastore_v2", "x.json"), ("sitecustomize", "x.py"), ("x", "x")):
            response = server.put("/datastore/image", params={"image": name}, files={"file": (file, b"{}")})
            assert "none that is known here" in refusal(response, 422)
        image = {"file": ("x.nii.gz", (folder / "d0.nii.gz").read_bytes())}
        assert "There is a folder called 'ct0'" in refusal(server.put("/datastore/image", params={"image": "ct0"}, files=image), 409)
        assert (folder / "datastore_v2.json").read_bytes() == record
        assert server.put("/datastore/image", params={"image": "a0"}, files=image).json() == {"image": "a0"}
        assert not (folder / "a0.png").exists() and not (folder / "labels" / "final" / "a0.nii.gz").exists()
        known = server.get("/datastore/?output=all").json()["objects"]["a0"]
        assert known["labels"] == {} and "normal" not in known["image"]["info"]


def test_thousands_of_studies_are_not_looked_through_for_each_of_them(tmp_path, monkeypatch):
    from monai_anomaly.label import studies

    for k in range(50):
        (tmp_path / f"{k}.png").write_bytes(b"")
    looks, content = [], studies._content
    monkeypatch.setattr(studies, "_content", lambda folder: looks.append(folder) or content(folder))
    store = StudyFolder(tmp_path)
    assert len([store.get_image_info(study) for study in store.list_images()]) == 50
    assert len(looks) <= 6  # the folder and those of its labels, once or twice


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
def test_empty_masks(tmp_path, ending):
    import SimpleITK as sitk  # noqa: N813

    values = np.zeros((4, 5, 6), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"empty{ending}"))
    values[1, 2, 3] = 1
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"marked{ending}"))
    (tmp_path / f"broken{ending}").write_bytes(b"no mask")
    assert is_empty_mask(tmp_path / f"empty{ending}") and not is_empty_mask(tmp_path / f"marked{ending}")
    with pytest.raises(DataError, match="cannot be read"):
        is_empty_mask(tmp_path / f"broken{ending}")
