"""POST /infer: each kind of result, and an answer in words for whatever cannot be judged."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from support.bulk import save_model, write_mixed
from support.label import client, infer, make_app, refusal

from monai_anomaly.bundle_root import root
from monai_anomaly.files import file_sha256
from monai_anomaly.inference import StudyDetector


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("an app with spaces")
    write_mixed(place / "the studies")
    make_app(place / "app", "skipts")
    return place


@pytest.fixture(scope="module")
def server(place):
    with client(place / "app", place / "the studies", "skipts,drd") as server:
        yield server


@pytest.fixture(scope="module")
def detector(place) -> StudyDetector:
    return StudyDetector(root("skipts"), place / "app" / "model" / "skipts" / "model.pt")


def read(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    return np.asarray(nib.load(path).dataobj)


def test_info_lists_models_trainers_scoring_strategies_and_studies(server):
    info = server.get("/info/").json()
    models = info["models"]
    assert set(models) == {"skipts", "drd", "skipts_map", "drd_map"}
    assert (
        models["skipts"]["type"] == "segmentation"
        and models["skipts"]["labels"] == {"anomaly": 1}
        and models["skipts_map"]["type"] == "others"
    )
    assert set(info["trainers"]) == set(info["scoring"]) == {"skipts", "drd"} and "most_anomalous" in info["strategies"]
    assert info["labels"] == ["anomaly"] and info["datastore"]["total"] == 14
    assert server.get("/model/info/skipts").json()["checksum"]


@pytest.mark.parametrize("image", ["a0", "d1", "ct0"])
def test_mask_map_and_json_are_the_detectors(server, place, detector, tmp_path, image):
    files = {"a0": "a0.png", "d1": "d1.nii.gz", "ct0": "ct0"}
    verdict = detector.judge(place / "the studies" / files[image])
    told, content = infer(server, image)
    mask = read(content, tmp_path / "mask.nii.gz")
    assert mask.dtype == np.uint8 and np.array_equal(mask, verdict.mask.transpose(1, 0, 2)) and mask.any()
    told_of_map, content = infer(server, image, "skipts_map")
    values = read(content, tmp_path / "map.nii.gz")
    assert values.dtype == np.float32 and np.array_equal(values, verdict.map.source.transpose(1, 0, 2), equal_nan=True)
    assert {**told, "result": "map", "label_names": {}} == told_of_map and told["label_names"] == {"anomaly": 1}
    assert (told["anomaly_score"], told["p_value"], told["flagged"]) == (verdict.score, verdict.p_value, verdict.flagged)
    assert (told["threshold"], told["map_threshold"], told["false_alarm_rate"]) == (verdict.threshold, verdict.map_threshold, 0.05)
    assert [score for score in told["slice_scores"] if score is not None] == [row["score"] for row in verdict.slices]
    assert told["findings"] == [dict(row) for row in verdict.findings] and told["n_findings"] == len(told["findings"]) > 0
    assert (
        told["model"]["sha256"] == verdict.model.sha256 == file_sha256(detector.model)
        and told["model"]["name"] == "skipts"
        and "not for diagnostic use" in told["notice"]
    )


def test_an_empty_slice_has_no_score(server):
    told, _ = infer(server, "d0")
    assert [score is None for score in told["slice_scores"]] == [False, False, True, False, False]


def test_json_or_image_alone(server, tmp_path):
    json_alone = server.post("/infer/skipts?image=a0&output=json")
    assert json_alone.status_code == 200 and json_alone.json()["anomaly_score"] > 0
    json.loads(json_alone.text, parse_constant=lambda word: pytest.fail(word))  # strict JSON
    image_alone = server.post(
        "/infer/skipts?image=a0&output=image", data={"params": json.dumps({"result_extension": ".nrrd", "result_dtype": "uint8"})}
    )
    assert image_alone.content.startswith(b"NRRD")
    without_file = server.post("/infer/skipts?image=a0", data={"params": json.dumps({"result_write_to_file": False})})
    assert without_file.json() == json_alone.json()


def test_an_upload_needs_no_data_store_and_nothing_of_it_stays(server, place):
    import tempfile

    before = set(Path(tempfile.gettempdir()).iterdir())
    with (place / "the studies" / "d1.nii.gz").open("rb") as file:
        response = server.post("/infer/skipts?output=json", files={"file": ("Doe_John.nii.gz", file)})
    assert response.json()["anomaly_score"] == infer(server, "d1")[0]["anomaly_score"]
    assert "Doe" not in response.text
    server.post("/infer/skipts?image=d1&output=image")
    assert set(Path(tempfile.gettempdir()).iterdir()) == before
    assert Path(tempfile.gettempdir()).stat().st_mode & 0o077 == 0


def test_a_session_can_be_judged_and_nobody_else_can_read_it(server, place):
    from monailabel.interfaces.utils.app import app_instance

    with client(place / "app", place / "studies with sessions") as other:
        content = (place / "the studies" / "d1.nii.gz").read_bytes()
        session = other.put("/session/", files={"files": ("d1.nii.gz", content)}).json()["session_id"]
        told = other.post(f"/infer/skipts?session_id={session}&output=json").json()
        assert Path(app_instance().sessions().store_path).stat().st_mode & 0o077 == 0
    assert told["anomaly_score"] == infer(server, "d1")[0]["anomaly_score"]


def test_another_false_alarm_rate(server):
    usual, generous = infer(server, "d1")[0], infer(server, "d1", false_alarm_rate=0.4)[0]
    assert (
        generous["false_alarm_rate"] == 0.4
        and generous["map_threshold"] < usual["map_threshold"]
        and generous["threshold"] < usual["threshold"]
    )
    assert "rate of 0.01" in refusal(server.post("/infer/skipts?image=d1", data={"params": '{"false_alarm_rate": 0.01}'}), 422)
    for rate in ('"low"', "NaN", "Infinity", "true", "[0.1]"):
        assert "expected a number" in refusal(
            server.post("/infer/skipts?image=d1", data={"params": f'{{"false_alarm_rate": {rate}}}'}), 422
        )


@pytest.mark.parametrize("params", [{"result_dtype": "uint8"}, {"result_dtype": "int16", "result_extension": ".nrrd"}])
def test_a_heat_map_is_never_cut_to_whole_numbers(server, params):
    assert "expected float32" in refusal(server.post("/infer/skipts_map?image=a0", data={"params": json.dumps(params)}), 422)


@pytest.mark.parametrize("extension", [".png", ".seg.nrrd", "/../../x.nrrd", ".nii.gz/../../../x.nrrd", 7, ["a"]])
def test_other_endings_are_refused(server, extension):
    assert "expected .nii.gz or .nrrd" in refusal(
        server.post("/infer/skipts?image=a0", data={"params": json.dumps({"result_extension": extension})}), 422
    )


@pytest.mark.parametrize("image", ["..", ".", "/", "nothing", "a0.png", "../the studies/a0.png", "a0/../a0", "\0", "labels", "x" * 5000])
def test_what_is_no_study_is_answered_so(server, image):
    assert "no study called" in refusal(server.post("/infer/skipts", params={"image": image, "output": "json"}), 404)


def test_a_path_on_the_server_is_no_study(server, place):
    outside = place / "outside.nii.gz"
    shutil.copy(place / "the studies" / "d0.nii.gz", outside)
    for path in (outside, place / "the studies" / "d0.nii.gz", place):
        assert "no study called" in refusal(server.post("/infer/skipts", params={"image": str(path)}), 404)
        response = server.post("/infer/skipts?image=a0", data={"params": json.dumps({"image": str(path)})})  # params can say it, too
        assert "no study called" in refusal(response, 404)


def test_no_image_and_no_model(server):
    assert server.post("/infer/skipts?output=json").status_code >= 400
    assert "no model 'unet'" in refusal(server.post("/infer/unet?image=a0"), 404)


def test_a_study_that_cannot_be_read(server, place):
    assert "truncated" in refusal(server.post("/infer/skipts?image=m_broken"), 422)
    assert server.post("/infer/skipts?image=a0&output=json").status_code == 200


def test_a_model_that_is_not_trained_says_how_to_train_it(server, place):
    told = refusal(server.post("/infer/drd?image=a0"), 409)
    assert (
        "not trained yet" in told
        and "python -m monai.bundle run --config_file" in told
        and "drd/train.json" in told
        and "POST /train/drd" in told
    )
    assert server.get("/model/info/drd").status_code == 404


def test_a_model_that_is_put_in_place_answers_the_next_request(place, tmp_path):
    app = make_app(tmp_path / "app", "skipts")
    with client(app, place / "the studies") as server:
        first = infer(server, "a0")[0]
        save_model(app / "model" / "skipts" / "model.pt", seed=1)
        second = infer(server, "a0")[0]
        assert first["anomaly_score"] != second["anomaly_score"] and first["model"]["sha256"] != second["model"]["sha256"]


def test_a_result_can_be_kept_as_a_label_with_its_score(server):
    told, _ = infer(server, "d1", save_label=True)
    info = server.get("/datastore/label/info?label=d1&tag=original").json()
    assert info["params"]["anomaly_score"] == told["anomaly_score"] and info["model"] == "skipts"
    told, content = infer(server, "d1", "skipts_map", save_label=True, label_tag="heatmap")
    assert server.get("/datastore/label?label=d1&tag=heatmap").content == content


def test_a_final_label_by_a_model_does_not_make_a_study_normal(server):
    infer(server, "d0", save_label=True, label_tag="final")
    assert "normal" not in server.get("/datastore/image/info?image=d0").json()


def test_two_clients_at_once(server, detector, place):
    images = ["a0", "m1", "d1", "ct0", "ct1"] * 3
    expected = {image: infer(server, image) for image in set(images)}
    found: list[tuple[str, tuple]] = []
    threads = [threading.Thread(target=lambda image=image: found.append((image, infer(server, image)))) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(images)
    for image, answer in found:
        assert answer == expected[image]


def test_many_at_once_and_one_that_cannot_be_read(server):
    params = {"images": ["a0", "m_broken", "d1"], "multi_gpu": False, "max_workers": 1, "device": "cpu"}
    found = server.post("/batch/infer/skipts?run_sync=true", json=params).json()
    assert (
        "truncated" in found["m_broken"]["refused"]
        and found["a0"]["params"]["anomaly_score"] > 0
        and found["d1"]["params"]["anomaly_score"] > 0
    )


@pytest.mark.parametrize("models", ["", "unet", "skipts,skipts", "../skipts"])
def test_an_app_without_a_bundle_does_not_start(place, models):
    from monai_anomaly.errors import OptionError

    with pytest.raises(OptionError, match=r"--conf models|called 'skipts'"), client(place / "app", place / "the studies", models):
        pass
