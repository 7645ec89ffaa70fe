"""The real server over HTTP: it trains in a process of its own, and the model that comes of it answers the next request."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

import requests
from support.label import make_app, untrained
from support.label_server import serve

from monai_anomaly.data import builtin_study, find_cases

pytestmark = pytest.mark.slow
SMALL = {"backbone": "resnet18", "teacher_weights": "random", "image_size": 64, "epochs": 3, "batch_size": 8}


def wait(url: str, task: str, shown: list[dict] | None = None, seconds: float = 300) -> list[dict]:
    """What the status of a background job said while it ran, and at last; and what viewers were shown of the training."""
    end, told = time.monotonic() + seconds, []
    while time.monotonic() < end:
        if shown is not None:
            shown.append(requests.get(f"{url}/info/", timeout=60).json()["train_stats"]["skipts"])
        response = requests.get(f"{url}/{task}/", timeout=60)
        told.append(response.json())
        if told[-1].get("status") not in ("SUBMITTED", "RUNNING"):
            return told
        time.sleep(0.2)
    raise TimeoutError(told[-1])


def test_train_score_and_infer_over_http(tmp_path):
    app, studies = make_app(tmp_path / "the app"), tmp_path / "the studies"
    studies.mkdir()
    found = find_cases(builtin_study())
    normal, others = (
        [Path(case["image"][0]).parent for case in cases] for cases in (found.select("train")[:11], found.select("test", 1)[:2])
    )
    for folder in [*normal, *others]:
        shutil.copytree(folder, studies / folder.name)
    abnormal = others[0].name
    with serve(app, studies, tmp_path / "scratch", {"models": untrained(app / "bundles", "skipts")}) as server:
        url = server.url
        told = requests.post(f"{url}/infer/skipts?image={abnormal}", timeout=60)
        assert told.status_code == 409 and "POST /train/skipts" in told.json()["detail"]

        requests.post(f"{url}/train/skipts", json=SMALL, timeout=60)
        refused = wait(url, "train")[-1]
        assert refused["status"] == "ERROR" and "at least 10 patients" in refused["details"][-1], refused

        for folder in normal[:10]:
            response = requests.put(f"{url}/datastore/image/info?image={folder.name}", data={"info": '{"normal": true}'}, timeout=60)
            assert response.ok, response.text
        requests.post(f"{url}/train/skipts", json=SMALL, timeout=60)
        shown: list[dict] = []
        told = wait(url, "train", shown)
        assert told[-1]["status"] == "DONE", told[-1]
        lines = [line for one in told for line in one.get("details") or []]
        assert any("training" in line and "%" in line for line in lines), lines  # the progress bar
        assert any("is trained" in line for line in lines)
        stats = requests.get(f"{url}/info/", timeout=60).json()["train_stats"]["skipts"]
        assert (stats["status"], stats["epoch"], stats["total_epochs"], stats["patients"]) == ("completed", 3, 3, 8) and stats["total_time"]
        done = [one["epoch"] for one in shown if one.get("status") == "training" and one.get("total_epochs") == 3]
        assert {1, 2} & {*done} and done == sorted(done), shown

        judged = requests.post(f"{url}/infer/skipts?image={abnormal}&output=json", timeout=120).json()
        assert judged["anomaly_score"] > 0 and judged["model"]["epochs"] == 3 and judged["false_alarm_rate"] == pytest.approx(1 / 3)
        mask = requests.post(
            f"{url}/infer/skipts?image={abnormal}&output=image", data={"params": '{"result_extension": ".nrrd"}'}, timeout=120
        )
        assert mask.ok and mask.content.startswith(b"NRRD")

        # MONAI Label has the scores made when a training ends.
        assert wait(url, "scoring")[-1]["status"] == "DONE"
        listing = requests.get(f"{url}/datastore/?output=all", timeout=60).json()["objects"]
        scored = {
            study: entry["image"]["info"]["anomaly"]["skipts"]["score"]
            for study, entry in listing.items()
            if "anomaly" in entry["image"]["info"]
        }
        assert set(scored) == {folder.name for folder in [normal[10], *others]} and scored[abnormal] == judged["anomaly_score"]
        first = requests.post(f"{url}/activelearning/most_anomalous", json={}, timeout=60).json()
        assert first["id"] == min(scored, key=lambda study: (-scored[study], study))
        assert server.looked_for() == []
        temporary = tmp_path / "scratch" / "temporary"
        assert list(temporary.glob("anomaly-*"))
    assert not list(temporary.glob("anomaly-*"))  # pixels of patients, which go also when the server is killed
    log = server.log.read_text(errors="replace")
    assert "Traceback" not in log.replace("\r", "\n"), log[-6000:]
    left = json.loads((studies / "datastore_v2.json").read_text())["objects"]
    assert all(left[folder.name]["image"]["info"]["normal"] for folder in normal[:10])
