"""The record of images and labels, written by the server and its background jobs at once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from monailabel.datastore.local import LocalDatastore

from monai_anomaly.errors import DataError
from monai_anomaly.label.record import SharedRecord
from monai_anomaly.label.refusals import RequestError

N = 30
JOB = """
import sys
from monai_anomaly.label.record import SharedRecord
store = SharedRecord(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for k in range(int(sys.argv[2])):
    store.update_image_info("a", {f"job{k}": k})
"""


@pytest.fixture
def studies(tmp_path) -> Path:
    for name in "ab":
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
    return tmp_path


def written(studies: Path) -> dict:
    return json.loads((studies / "datastore_v2.json").read_text())["objects"]


def test_two_processes_lose_nothing(studies):
    store = SharedRecord(str(studies))
    job = subprocess.Popen([sys.executable, "-c", JOB, studies, str(N)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert job.stdout.readline() == "ready\n"
    job.stdin.write("go\n")
    job.stdin.flush()
    for k in range(N):
        store.update_image_info("a", {f"server{k}": k})
    job.communicate(timeout=60)
    assert {f"{who}{k}" for who in ("job", "server") for k in range(N)} <= {*written(studies)["a"]["image"]["info"]}
    assert store.get_image_info("a")["job7"] == 7


def test_as_released_the_later_writer_wins(studies):
    """Why the class is there; when this fails, MONAI Label has mended it."""
    one, other = LocalDatastore(str(studies)), LocalDatastore(str(studies))
    one.update_image_info("a", {"normal": True})
    other.update_image_info("b", {"score": 1})
    assert "normal" not in written(studies)["a"]["image"]["info"]


def test_threads_lose_nothing_and_readers_see_whole_files(studies):
    store, seen = SharedRecord(str(studies)), []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            seen.append(len(written(studies)))

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=store.update_image_info, args=("b", {f"t{k}": k})) for k in range(N)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    reader.join()
    assert {f"t{k}" for k in range(N)} <= {*written(studies)["b"]["image"]["info"]} and {*seen} == {2}


def test_a_writer_that_fails_leaves_the_old_record(studies, monkeypatch):
    store = SharedRecord(str(studies))
    before = written(studies)
    with pytest.raises(ZeroDivisionError), store.changing() as record:
        record.objects["a"].image.info["half"] = True
        raise ZeroDivisionError
    assert written(studies) == before and "half" not in store.get_image_info("a")


def test_unknown_names(studies):
    store = SharedRecord(str(studies))
    for ask in (
        lambda: store.update_image_info("c", {}),
        lambda: store.update_label_info("c", "final", {}),
        lambda: store.remove_image("c"),
    ):
        with pytest.raises(RequestError, match="There is no study called 'c'") as refused:
            ask()
        assert refused.value.status_code == 404
    with pytest.raises(RequestError, match="'a' has no label 'final'") as refused:
        store.update_label_info("a", "final", {})
    assert refused.value.status_code == 404
    assert store.get_labels_by_image_id("c") == {} and store.get_image_info("c") == {}


def test_a_record_that_cannot_be_read_is_said(studies):
    store = SharedRecord(str(studies))
    (studies / "datastore_v2.json").write_text("{")
    with pytest.raises(DataError, match=r"datastore_v2.json cannot be read .* expected MONAI Label's record"):
        store.list_images()


def test_a_label_of_another_kind_takes_the_place_of_the_old_one(studies, tmp_path_factory):
    store, file = SharedRecord(str(studies)), tmp_path_factory.mktemp("sent") / "x"
    file.write_bytes(b"mask")
    for suffix in (".nii.gz", ".nrrd"):
        store.keep_label("a", "final", file, suffix, {"by": "a person"})
    assert [path.name for path in (studies / "labels" / "final").iterdir()] == ["a.nrrd"]
    assert store.get_label_uri("a", "final").endswith("a.nrrd") and store.get_label_info("a", "final")["by"] == "a person"
    with pytest.raises(RequestError, match="There is no study called 'c'"):
        store.keep_label("c", "final", file, ".nrrd", {})
