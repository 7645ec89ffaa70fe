"""POST /train on studies that were marked normal; POST /scoring and the worklist that comes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from support.bulk import save_model
from support.label import client, infer, make_app, refusal

from monai_anomaly.bundle_root import root
from monai_anomaly.data import builtin_study, find_cases
from monai_anomaly.label.models import ServedModel
from monai_anomaly.label.refusals import RequestError
from monai_anomaly.label.strategy import MostAnomalous
from monai_anomaly.label.train import TrainOnNormals
from monai_anomaly.training import load_detector

SMALL = {"backbone": "resnet18", "teacher_weights": "random", "image_size": 64, "epochs": 1, "batch_size": 8}


def study_folder(place: Path, n_normal: int = 12, n_abnormal: int = 2) -> tuple[list[str], list[str]]:
    """Series folders of the built-in study, by name: normal ones and others."""
    found = find_cases(builtin_study())
    place.mkdir()
    names: list[list[str]] = []
    for cases, n in ((found.select("train"), n_normal), (found.select("test", 1), n_abnormal)):
        folders = [Path(case["image"][0]).parent for case in cases[:n]]
        names.append([shutil.copytree(folder, place / folder.name).name for folder in folders])
    return names[0], names[1]


def mark(server, study: str, normal: bool = True, **more) -> None:
    response = server.put("/datastore/image/info", params={"image": study}, data={"info": json.dumps({"normal": normal, **more})})
    assert response.status_code == 200, response.text


def accept(server, study: str, mask: np.ndarray, path: Path, tag: str = "final") -> None:
    """What a viewer sends when a radiologist submits a mask."""
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), path)
    with path.open("rb") as file:
        params = {"label_info": [{"name": "anomaly", "idx": 1}]}
        response = server.put(
            "/datastore/label", params={"image": study, "tag": tag}, files={"label": (path.name, file)}, data={"params": json.dumps(params)}
        )
    assert response.status_code == 200, response.text


@pytest.fixture
def place(tmp_path) -> Path:
    make_app(tmp_path / "app")
    return tmp_path


def info(server, study: str) -> dict:
    return server.get("/datastore/image/info", params={"image": study}).json()


@pytest.mark.slow
def test_training_on_the_builtin_study_answers_the_next_request(place):
    normal, abnormal = study_folder(place / "studies")
    with client(place / "app", place / "studies") as server:
        refusal(server.post(f"/infer/skipts?image={abnormal[0]}"), 409)
        for study in normal:
            mark(server, study)
        stats = server.post("/train/skipts?run_sync=true", json=SMALL).json()
        assert (stats["status"], stats["epoch"], stats["patients"], stats["held_out_patients"]) == ("completed", 1, 10, 2)
        assert server.get("/info/").json()["train_stats"]["skipts"] == stats
        told, _ = infer(server, abnormal[0], "skipts_map")
        model = place / "app" / "model" / "skipts" / "model.pt"
        detector = load_detector(model)
        assert told["false_alarm_rate"] == pytest.approx(1 / 3) and detector.provenance["settings"]["dataset_dir"] == "datalist.json"
        assert told["threshold"] == max(detector.calibration["patient"]["scores"]) and told["model"]["epochs"] == 1
        (run,) = (place / "app" / "model" / "skipts" / "runs").iterdir()
        listed = json.loads((run / "datalist.json").read_text())
        assert sorted(Path(case["image"]).name for case in listed["training"]) == sorted(normal) and listed["testing"] == []

        again = server.post("/train/skipts?run_sync=true", json={**SMALL, "epochs": 2}).json()  # goes on
        record = json.loads((run / "run.json").read_text())
        assert again["epoch"] == again["total_epochs"] == 2 and [one["after_epoch"] for one in record["resumed"]] == [1]
        second, _ = infer(server, abnormal[0], "skipts_map")
        assert second["anomaly_score"] != told["anomaly_score"] and second["model"]["epochs"] == 2

        mark(server, normal[0], False)
        fewer = server.post("/train/skipts?run_sync=true", json=SMALL).json()
        assert fewer["patients"] == 9 and not run.exists() and len(list(run.parent.iterdir())) == 1  # another run; the old one is gone
        assert not list((place / "app").rglob("*.part"))


@pytest.mark.slow
def test_an_interrupted_training_goes_on_and_the_old_model_answers_meanwhile(place, monkeypatch):
    normal, _ = study_folder(place / "studies", 10, 0)
    model = save_model(place / "app" / "model" / "skipts" / "model.pt")
    before = model.read_bytes()
    from monai_anomaly.training import SaveDetector

    def stopped(self, engine):
        raise RuntimeError("the power is gone")

    with client(place / "app", place / "studies") as server:
        for study in normal:
            mark(server, study)
        with monkeypatch.context() as patch:
            patch.setattr(SaveDetector, "__call__", stopped)
            assert server.post("/train/skipts?run_sync=true", json=SMALL).status_code == 500
        assert model.read_bytes() == before and infer(server, normal[0])[0]["anomaly_score"]
        assert server.post("/train/skipts?run_sync=true", json=SMALL).json()["status"] == "completed"
        assert model.read_bytes() != before
        (run,) = (place / "app" / "model" / "skipts" / "runs").iterdir()
        assert json.loads((run / "run.json").read_text())["resumed"]


def test_too_few_normals_are_refused(place):
    normal, _ = study_folder(place / "studies", 10, 0)
    with client(place / "app", place / "studies") as server:
        assert "0 studies are marked normal" in refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 422)
        for study in normal[1:]:
            mark(server, study)
        told = refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 422)
        assert (
            "9 studies are marked normal, of 9 patients" in told and "at least 10 patients" in told and "PUT /datastore/image/info" in told
        )
        mark(server, normal[0], "yes")  # no truth value
        refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 422)
        assert (
            server.get("/info/").json()["train_stats"] == {"skipts": {}} and not (place / "app" / "model" / "skipts" / "model.pt").exists()
        )


def test_files_of_one_patient_count_once(place):
    (place / "studies").mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        nib.save(nib.Nifti1Image(rng.integers(0, 99, (32, 32, 3)).astype(np.int16), np.eye(4)), place / "studies" / f"{k}.nii.gz")
    with client(place / "app", place / "studies") as server:
        for k in range(12):
            mark(server, str(k), patient=f"p{k // 4}")
        assert "12 studies are marked normal, of 3 patients" in refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 422)


@pytest.mark.parametrize(
    "value",
    [
        "$__import__('os').mkdir('/tmp/never')",
        " $1",
        "@lr",
        "%train.json::lr",
        {"_target_": "os.getcwd"},
        [[{"_target_": "os.getcwd"}]],
        ["$1"],
    ],
)
def test_a_client_cannot_have_expressions_run(place, value):
    (place / "studies").mkdir()
    with client(place / "app", place / "studies") as server:
        assert "expressions are not taken" in refusal(server.post("/train/skipts?run_sync=true", json={"epochs": value}), 422)


@pytest.mark.parametrize("weights", ["/etc/hostname", "teacher.pth", "../x", "~/x.pt", "C:\\x.pt", "teacher", None, 7, ["IMAGENET1K_V1"]])
def test_a_client_cannot_name_files_of_the_server(place, weights):
    (place / "studies").mkdir()
    with client(place / "app", place / "studies", teacher_weights="/models/teacher.pth") as server:
        told = refusal(server.post("/train/skipts?run_sync=true", json={"teacher_weights": weights}), 422)
        assert "teacher_weights is" in told and "--conf teacher_weights FILE" in told


def test_the_operators_weights_are_those_of_the_teacher(place, monkeypatch):
    given = []
    monkeypatch.setattr(TrainOnNormals, "_normals", lambda self, store: [])
    monkeypatch.setattr(TrainOnNormals, "_check", lambda self, cases: None)
    monkeypatch.setattr(TrainOnNormals, "_publish", lambda self, folder: None)
    monkeypatch.setattr(TrainOnNormals, "_train", lambda self, datalist, folder, flags: given.append(flags))
    (place / "studies").mkdir()
    with client(place / "app", place / "studies", teacher_weights="/models/teacher.pth") as server:
        for body in (
            {"epochs": 1},
            {"teacher_weights": "random"},
            {"cache_dir": "/", "output_dir": "/", "bundle_root": "/", "dataset_dir": "/"},
        ):
            assert server.post("/train/skipts?run_sync=true", json=body).status_code == 200
    operator = "/models/teacher.pth"
    assert given == [{"teacher_weights": operator, "epochs": 1}, {"teacher_weights": "random"}, {"teacher_weights": operator}]


def test_two_trainings_of_a_model_at_once_are_refused(place, monkeypatch):
    monkeypatch.setattr("monai_anomaly.label.train.PATIENCE_S", 0.1)
    (place / "studies").mkdir()
    folder = place / "app" / "model" / "skipts"
    folder.mkdir(parents=True)
    code = "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    with client(place / "app", place / "studies", "skipts,drd") as server:
        with subprocess.Popen(
            [sys.executable, "-c", code, folder / ".training"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout.readline() == "held\n"
            (folder / "progress.json").write_text('{"epoch": 3, "total_epochs": 20}')
            assert "being trained already" in refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 409)
            assert "0 studies are marked" in refusal(server.post("/train/drd?run_sync=true", json=SMALL), 422)  # another model
            assert server.get("/info/").json()["train_stats"]["skipts"] == {"status": "training", "epoch": 3, "total_epochs": 20}
            other.kill()
        assert server.get("/info/").json()["train_stats"]["skipts"] == {}  # what a killed one left
        assert "0 studies are marked" in refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 422)
    assert not (folder / "progress.json").exists() and not (folder / "runs").exists()


def test_what_depends_on_the_data_is_not_offered_for_editing():
    assert set(TrainOnNormals(ServedModel(root("scrd4ad"), "app")).config()) == {"image_size", "ct_window", "batch_size"}
    assert set(TrainOnNormals(ServedModel(root("skipts"), "app")).config()) == {"epochs", "image_size", "ct_window", "batch_size"}


def test_a_job_in_the_background_gets_no_path_of_python_from_a_client(place, monkeypatch):
    from monailabel.utils.async_tasks import task

    jobs = []
    monkeypatch.setattr(task, "run_background_task", lambda request, method: jobs.append(request) or {})
    (place / "studies").mkdir()
    with client(place / "app", place / "studies") as server:
        for path in ("/train/skipts", "/scoring/skipts", "/batch/infer/skipts"):
            for body in ({"bundle_path": "/tmp"}, {"bundle_path": "/tmp", "model": ["x"]}):
                assert server.post(path, json=body).status_code == 200
    assert [Path(job["bundle_path"]) for job in jobs] == [place / "app" / "bundles" / "skipts"] * 6


@pytest.mark.parametrize(("path", "what"), [("train", "model"), ("scoring", "scoring method"), ("activelearning", "strategy")])
@pytest.mark.parametrize("name", ["unet", "..", ["skipts"], {"a": 1}])
def test_names_of_nothing(place, path, what, name):
    (place / "studies").mkdir()
    with client(place / "app", place / "studies") as server:
        body = {{"train": "model", "scoring": "method", "activelearning": "strategy"}[path]: name}
        told = refusal(server.post(f"/{path}/skipts?run_sync=true", json=body), 404)
        assert f"There is no {what} " in told and "expected one of" in told
    with pytest.raises(RequestError, match="no model"):
        MostAnomalous({})({"model": name}, None)


@pytest.mark.parametrize("said", ["high", 7, {"skipts": "high"}, {"skipts": {"score": "high"}}, {"skipts": {"score": [1]}}])
def test_what_a_client_writes_in_the_place_of_a_score_is_none(place, said):
    study_folder(place / "studies", 1, 0)
    (study,) = (path.name for path in (place / "studies").iterdir())
    save_model(place / "app" / "model" / "skipts" / "model.pt")
    with client(place / "app", place / "studies") as server:
        written = server.put("/datastore/image/info", params={"image": study}, data={"info": json.dumps({"anomaly": said})})
        assert written.status_code == 200
        first = server.post("/activelearning/most_anomalous", json={}).json()
        assert (first["id"], first["anomaly_score"], first["worklist"]["not_scored"]) == (study, None, 1)
        assert server.post("/scoring/skipts?run_sync=true").json()["scored"] == 1
        assert server.post("/activelearning/most_anomalous", json={}).json()["anomaly_score"] > 0


def test_what_is_no_flag_is_said(place, caplog):
    (place / "studies").mkdir()
    with client(place / "app", place / "studies") as server:
        refusal(server.post("/train/skipts?run_sync=true", json={**SMALL, "epohcs": 3, "gpus": "all", "dataset_dir": "/"}), 422)
    assert "The request's dataset_dir, epohcs is no flag" in caplog.text


def test_a_final_label_says_whether_a_study_is_normal(place):
    study_folder(place / "studies", 4, 0)
    studies = sorted(path.name for path in (place / "studies").iterdir())
    empty, lesion = np.zeros((64, 64, 8), bool), np.zeros((64, 64, 8), bool)
    lesion[3:9, 4:7, 2] = True
    with client(place / "app", place / "studies") as server:
        accept(server, studies[0], empty, place / "a.nii.gz")
        accept(server, studies[1], lesion, place / "b.nii.gz")
        accept(server, studies[2], empty, place / "c.nii.gz", tag="original")
        assert [info(server, study).get("normal") for study in studies] == [True, False, None, None]
        mark(server, studies[1])  # against its label
        told = refusal(server.post("/train/skipts?run_sync=true", json=SMALL), 422)
        assert "1 studies are marked normal" in told
    with client(place / "app", place / "studies") as server:  # it is on disk
        assert info(server, studies[0])["normal"] is True


def test_worklist(place):
    study_folder(place / "studies", 3, 2)
    studies = sorted(path.name for path in (place / "studies").iterdir())
    (place / "studies" / "broken.nii.gz").write_bytes(b"\x1f\x8b no volume")
    with client(place / "app", place / "studies") as server:
        nothing = server.post("/scoring/skipts?run_sync=true").json()
        assert nothing["scored"] == 0 and "not trained yet" in nothing["reason"]
        first = server.post("/activelearning/most_anomalous", json={}).json()
        assert (
            first["id"] == min([*studies, "broken"])
            and first["anomaly_score"] is None
            and first["worklist"] == {"scored": 0, "not_scored": 6, "refused": 0}
        )

        save_model(place / "app" / "model" / "skipts" / "model.pt")
        assert server.post("/scoring/skipts?run_sync=true").json() == {"scored": 5, "scored_before": 0, "refused": 1}
        assert server.post("/scoring/skipts?run_sync=true").json() == {"scored": 0, "scored_before": 5, "refused": 1}
        scores = {study: infer(server, study)[0]["anomaly_score"] for study in studies}
        assert {study: info(server, study)["anomaly"]["skipts"]["score"] for study in studies} == scores
        assert "expected" in info(server, "broken")["anomaly"]["skipts"]["refused"]
        ranked = sorted(studies, key=lambda study: (-scores[study], study))
        for place_in_list, study in enumerate(ranked):
            following = server.post("/activelearning/most_anomalous", json={}).json()
            assert (following["id"], following["anomaly_score"]) == (study, scores[study]) and following["path"] == str(
                place / "studies" / study
            )
            assert following["worklist"] == {"scored": 5 - place_in_list, "not_scored": 0, "refused": 1}
            if place_in_list % 2:
                mark(server, study)
            else:
                accept(server, study, np.ones((8, 8, 8)), place / "mask.nii.gz")
        assert server.post("/activelearning/most_anomalous", json={}).json()["id"] == "broken"
        mark(server, "broken", False)
        assert server.post("/activelearning/most_anomalous", json={}).json() == {}
        assert "no model 'unet'" in refusal(server.post("/activelearning/most_anomalous", json={"model": "unet"}), 404)


def test_a_worklist_of_thousands_is_chosen_from_at_once(monkeypatch):
    known = {f"s{k}": {"anomaly": {"a": {"model": "m", **({"score": 1.0 * k} if k % 2 else {"refused": "odd"})}}} for k in range(20_000)}
    store, served = SimpleNamespace(get_unlabeled_images=lambda: [*known], get_image_info=known.get), SimpleNamespace(digest=lambda: "m")
    begin = time.monotonic()
    chosen = MostAnomalous({"a": served})({}, store)
    assert chosen["id"] == "s19999" and chosen["worklist"] == {"scored": 10_000, "not_scored": 0, "refused": 10_000}
    assert time.monotonic() - begin < 1.5


def test_scores_are_made_again_when_the_model_or_the_study_changes(place, monkeypatch):
    monkeypatch.setattr("monai_anomaly.label.studies.LOOK_S", 0.0)
    study_folder(place / "studies", 2, 0)
    first, second = sorted(path.name for path in (place / "studies").iterdir())
    model = save_model(place / "app" / "model" / "skipts" / "model.pt")
    with client(place / "app", place / "studies") as server:
        assert server.post("/scoring/skipts?run_sync=true").json()["scored"] == 2
        (place / "studies" / first / "CT-008.dcm").unlink()
        assert server.post("/scoring/skipts?run_sync=true").json() == {"scored": 1, "scored_before": 1, "refused": 0}
        save_model(model, seed=1)
        unknown = server.post("/activelearning/most_anomalous", json={}).json()
        assert unknown["anomaly_score"] is None and unknown["worklist"] == {
            "scored": 0,
            "not_scored": 2,
            "refused": 0,
        }  # another model's do not count
        assert server.post("/scoring/skipts?run_sync=true").json() == {"scored": 2, "scored_before": 0, "refused": 0}
        shutil.copytree(place / "studies" / second, place / "studies" / "third")  # added while the server runs
        assert server.post("/scoring/skipts?run_sync=true").json() == {"scored": 1, "scored_before": 2, "refused": 0}


def test_scores_of_two_models_stand_side_by_side(place):
    study_folder(place / "studies", 1, 0)
    for seed, name in enumerate(("skipts", "rd4ad")):
        save_model(place / "app" / "model" / name / "model.pt", seed=seed)
    with client(place / "app", place / "studies", "skipts,rd4ad") as server:
        for name in ("skipts", "rd4ad"):
            assert server.post(f"/scoring/{name}?run_sync=true").json()["scored"] == 1
        (study,) = (path.name for path in (place / "studies").iterdir() if path.is_dir() and path.name != "labels")
        scores = {name: told["score"] for name, told in info(server, study)["anomaly"].items()}
        assert scores["skipts"] != scores["rd4ad"]
        for name, score in scores.items():
            chosen = server.post("/activelearning/most_anomalous", json={"model": name}).json()
            assert (chosen["scored_by"], chosen["anomaly_score"]) == (name, score)
