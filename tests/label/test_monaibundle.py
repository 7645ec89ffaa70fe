"""MONAI Label's own app ``monaibundle`` serves a packed bundle of ours: masks in the right place, and the same numbers as everywhere."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

import requests
import SimpleITK as sitk  # noqa: N813 - as its own documents name it
from support.bulk import save_model
from support.dicom import OBLIQUE, make_series
from support.label import client_of_app, infer, lesion_volume, map_is_brightness, refusal
from support.label_server import serve

from monai_anomaly import inference
from monai_anomaly.inference import StudyDetector
from monai_anomaly.pack import pack_bundle

CONF = {"models": "skipts", "zoo_source": "local", "sam2": "false"}
OBLIQUE_AXES = np.linalg.qr(np.array([[-0.6, 0.32, 0.8], [0.3, 0.84, -1.1], [0.1, 0.11, 3.9]]))[0]


AFFINES = {
    "RAS": np.diag([0.7, 0.9, 4.0, 1.0]), "LAS": np.diag([-0.7, 0.9, 4.0, 1.0]), "LPS": np.diag([-0.7, -0.9, 4.0, 1.0]),
    "permuted": np.array([[0, 0, 4.0, 5], [-0.7, 0, 0, 6], [0, -0.9, 0, 7], [0, 0, 0, 1]]),
    "oblique": np.block([[OBLIQUE_AXES * (0.7, 0.9, 4.0), np.array([[31.0], [-42.0], [53.0]])], [np.array([0.0, 0.0, 0.0, 1.0])]]),
}  # fmt: skip
SHEARED = np.array([[0.7, 0.3, 0, 0], [0, 0.9, 0, 0], [0, 0, 4.0, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stock app as MONAI Label hands it out, a packed bundle in it, and studies."""
    place = tmp_path_factory.mktemp("stock")
    command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", str(place)]
    subprocess.run(command, check=True, capture_output=True)
    save_model(place / "model.pt")
    pack_bundle("skipts", place / "skipts.zip", place / "model.pt")
    with zipfile.ZipFile(place / "skipts.zip") as archive:
        archive.extractall(place / "monaibundle" / "model")
    values, _ = lesion_volume()
    (place / "studies").mkdir()
    for name, affine in {**AFFINES, "sheared": SHEARED}.items():
        nib.save(nib.Nifti1Image(values, affine), place / "studies" / f"{name}.nii.gz")
    make_series(place / "series", n=20, shape=(64, 64), orientation=OBLIQUE, pixels=values.transpose(1, 0, 2), modality="MR")
    return place


@pytest.fixture
def server(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    map_is_brightness(monkeypatch)
    with client_of_app(place / "monaibundle", place / "studies", **CONF) as server:
        yield server


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("name", AFFINES)
def test_the_mask_lies_where_the_lesion_does(server: Any, place: Path, tmp_path: Path, name: str, ending: str):
    _, content = infer(server, name, result_extension=ending, result_dtype="uint8")
    (tmp_path / f"mask{ending}").write_bytes(content)
    mask, source = sitk.ReadImage(str(tmp_path / f"mask{ending}")), sitk.ReadImage(str(place / "studies" / f"{name}.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(mask).transpose(2, 1, 0), lesion_volume()[1])
    assert mask.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(mask, get)() == pytest.approx(getattr(source, get)(), abs=1e-4)


def test_a_dicom_series_too(server: Any, place: Path, tmp_path: Path):
    _, content = infer(server, str(place / "series"))
    (tmp_path / "mask.nii.gz").write_bytes(content)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(place / "series")))
    mask, source = sitk.ReadImage(str(tmp_path / "mask.nii.gz")), reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(mask), lesion_volume()[1].transpose(2, 1, 0))
    assert mask.GetOrigin() == pytest.approx(source.GetOrigin(), abs=1e-3)
    assert mask.GetDirection() == pytest.approx(source.GetDirection(), abs=1e-4)


def test_the_answer_says_what_the_detector_says(place: Path):
    verdict = StudyDetector(place / "monaibundle" / "model" / "skipts").judge(place / "studies" / "LAS.nii.gz")
    with client_of_app(place / "monaibundle", place / "studies", **CONF) as server:
        assert server.get("/info/").json()["models"]["skipts"]["type"] == "segmentation"
        told, content = infer(server, "LAS")
        half, _ = infer(server, "LAS", false_alarm_rate=0.5)
    assert (told["anomaly_score"], told["p_value"], told["map_threshold"]) == (verdict.score, verdict.p_value, verdict.map_threshold)
    assert told["findings"] == [dict(row) for row in verdict.findings]
    assert nib.Nifti1Image.from_bytes(gzip.decompress(content)).get_fdata().sum() == verdict.mask.sum()
    assert half["false_alarm_rate"] == 0.5 != told["false_alarm_rate"]


def test_the_model_is_loaded_once_and_again_when_it_changes(server: Any, place: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = []
    load = inference.load_detector
    monkeypatch.setattr(inference, "load_detector", lambda path: loaded.append(path) or load(path))
    first, _ = infer(server, "LAS")
    infer(server, "RAS")
    assert len(loaded) == 1
    save_model(place / "monaibundle" / "model" / "skipts" / "models" / "model.pt", seed=1)
    second, _ = infer(server, "LAS")
    assert len(loaded) == 2
    assert first["model"]["sha256"] != second["model"]["sha256"]


@pytest.mark.parametrize(
    ("image", "params", "sentence"),
    [
        ("sheared", {}, "right angles"),
        ("LAS", {"result_extension": ".exe"}, "expected .nii.gz or .nrrd"),
        ("LAS", {"model_filename": "../../other.pt"}, "There is no model '../../other.pt'"),
        ("LAS", {"false_alarm_rate": "much"}, "expected a number"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_sentence(server: Any, image: str, params: dict[str, Any], sentence: str):
    response = server.post(f"/infer/skipts?image={image}", data={"params": json.dumps(params)})
    assert sentence in refusal(response, 409 if "model_filename" in params else 422)


TRAIN = """
import sys
import monai_anomaly._torchvision
from monailabel.tasks.train.bundle import BundleTrainTask

class Labelled:
    def datalist(self):
        return [{"image": sys.argv[2], "label": sys.argv[3]}]

BundleTrainTask(sys.argv[1], {})({"model": "skipts", "max_epochs": 1, "val_split": -1, "tracking": "None"}, Labelled())
"""


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False])
def test_its_training_which_takes_labelled_lesions_is_refused(place: Path, tmp_path: Path, trained: bool):
    with zipfile.ZipFile(place / "skipts.zip") as archive:
        archive.extractall(tmp_path)
    model = tmp_path / "skipts" / "models" / "model.pt"
    before = model.read_bytes()
    if not trained:
        model.unlink()
    command = [sys.executable, "-c", TRAIN, tmp_path / "skipts", place / "studies" / "LAS.nii.gz", place / "studies" / "LAS.nii.gz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MONAI Label's app monaibundle cannot train these bundles" in (done.stdout + done.stderr)
    assert model.read_bytes() == before if trained else not any(model.parent.glob("*.pt"))


@pytest.mark.slow
def test_the_real_server_runs_it_without_a_network(place: Path, tmp_path: Path):
    with serve(place / "monaibundle", place / "studies", tmp_path / "scratch", CONF, any_torchvision=True) as running:
        response = requests.post(f"{running.url}/infer/skipts?image=LAS&output=json", timeout=120)
        assert response.ok, running.log.read_text()[-4000:]
        assert response.json()["anomaly_score"] > 0
        assert running.looked_for() == []
