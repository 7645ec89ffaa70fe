"""A PACS that is down, slow, strict or no PACS at all: one sentence each, soon, and without a password."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("monailabel", reason="needs MONAI Label: make test-label")

from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from support.label import client, make_app

from monai_anomaly.bundle_root import root
from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.label.models import ServedModel
from monai_anomaly.label.pacs.cache import SeriesCache
from monai_anomaly.label.pacs.client import Pacs, check_uid
from monai_anomaly.label.pacs.store import PacsDatastore
from monai_anomaly.label.refusals import RequestError
from monai_anomaly.label.scoring import AnomalyScoring

SERIES = {
    "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
    "0020000D": {"vr": "UI", "Value": ["1.2"]},
    "00080060": {"vr": "CS", "Value": ["CT"]},
}


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """A server on this machine that answers whatever it is asked; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer(self)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def send(handler: BaseHTTPRequestHandler, status: int, content: bytes, kind: str = "application/dicom+json") -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def pacs_at(port: int, timeout: float = 5.0) -> Pacs:
    return Pacs(DICOMwebClient(f"http://127.0.0.1:{port}/dicom-web", timeout=timeout))


@pytest.mark.parametrize(
    ("status", "content", "kind", "expected", "words"),
    [
        (401, b"", "text/plain", 502, "answers with status 401; expected data: check its DICOMweb settings and who may log in"),
        (503, b"", "text/plain", 502, "status 503"),
        (500, b"x" * 10000, "text/plain", 502, "status 500"),
        (200, b"<html>Welcome</html>", "text/html", 502, "cannot be read"),
        (200, b"[[[", "application/dicom+json", 502, "cannot be read"),
        (200, b'["text"]', "application/dicom+json", 502, "cannot be read"),
        (200, b"[{}]", "application/dicom+json", 502, "cannot be read"),
        (
            200,
            json.dumps([{**SERIES, "0020000E": {"vr": "UI", "Value": ["../../x"]}}]).encode(),
            "application/dicom+json",
            404,
            "There is no series 1.2.3",
        ),
        (200, b"[]", "application/dicom+json", 404, "There is no series 1.2.3 in the PACS at 127.0.0.1"),
        (
            200,
            json.dumps([{**SERIES, "0020000E": {"vr": "UI", "Value": ["1.2.4"]}}]).encode(),
            "application/dicom+json",
            404,
            "There is no series 1.2.3",
        ),
    ],
)
def test_every_odd_answer_is_a_sentence(status, content, kind, expected, words):
    with answering(lambda handler: send(handler, status, content, kind)) as port:
        begin = time.monotonic()
        with pytest.raises(RequestError, match=words) as refused:
            pacs_at(port).series("1.2.3")
    assert refused.value.status_code == expected and time.monotonic() - begin < 5 and len(str(refused.value)) < 500


def test_a_pacs_that_is_down_is_said_at_once_and_its_password_is_not():
    with answering(lambda handler: None) as port:
        pass
    pacs = Pacs(DICOMwebClient(f"http://user:secret@127.0.0.1:{port}/dicom-web"))
    begin = time.monotonic()
    with pytest.raises(RequestError, match=f"The PACS at 127.0.0.1:{port}/dicom-web cannot be reached") as refused:
        pacs.search({"Modality": "CT"})
    assert refused.value.status_code == 503 and "secret" not in str(refused.value) and time.monotonic() - begin < 2


def test_a_server_starts_before_its_pacs(tmp_path):
    """MONAI Label counts studies and begins to score as soon as it starts."""
    with answering(lambda handler: None) as port:
        pass
    store = PacsDatastore(DICOMwebClient(f"http://127.0.0.1:{port}/dicom-web"), cache_path=str(tmp_path))
    assert "cannot be reached" in store.status()["error"] and store.status()["total"] == 0
    app = make_app(tmp_path / "app", "skipts")
    done = AnomalyScoring(ServedModel(root("skipts"), app))({}, store)
    assert done["scored"] == 0 and "cannot be reached" in done["reason"]
    for call in (
        store.list_images,
        store.get_unlabeled_images,
        store.datalist,
        lambda: store.get_image_uri("1.2.3"),
        lambda: store.get_image_info("1.2.3"),
    ):
        with pytest.raises(RequestError, match="cannot be reached") as refused:
            call()
        assert refused.value.status_code == 503


def test_a_pacs_that_hangs_is_given_up():
    ended = threading.Event()
    with answering(lambda handler: ended.wait(10)) as port:
        with pytest.raises(RequestError, match="does not answer in time") as refused:
            pacs_at(port, timeout=0.3).search({"Modality": "CT"})
        ended.set()
    assert refused.value.status_code == 503


def test_what_the_pacs_does_not_store_is_refused():
    result = Dataset()
    result.SOPClassUID, result.SOPInstanceUID, result.Modality = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3.4", "SEG"
    result.ensure_file_meta()
    result.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    result.file_meta.MediaStorageSOPClassUID, result.file_meta.MediaStorageSOPInstanceUID = result.SOPClassUID, result.SOPInstanceUID
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3.4"]}}]}}
    with answering(lambda handler: send(handler, 200, json.dumps(failed).encode())) as port:
        with pytest.raises(RequestError, match=r"refused 1 of 1 results \(SEG\)") as refused:
            pacs_at(port).store([result])
    assert refused.value.status_code == 502


def test_half_a_series_is_not_kept(tmp_path):
    """The list says two instances, and nothing is given."""
    instance = {"00080018": {"vr": "UI", "Value": ["1.2.3.1"]}}
    other = {"00080018": {"vr": "UI", "Value": ["1.2.3.2"]}}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "/instances" in handler.path:
            send(handler, 200, json.dumps([] if "offset=2" in handler.path else [instance, other]).encode())
        else:
            send(handler, 200, b"--x--", 'multipart/related; type="application/dicom"; boundary=x')

    with answering(answer) as port:
        cache = SeriesCache(tmp_path / "cache", pacs_at(port))
        with pytest.raises(RequestError, match=r"lists 2 instances .* gave 0 of them|cannot be read"):
            cache.update(Dataset.from_json(SERIES))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".dcm", ".part", ".gz")]


class EmptyPacs:
    """It lists a series and no instances of it."""

    def instances(self, series):
        return set()

    def fetch(self, series, keep):
        return set()


def test_a_series_without_instances_is_said(tmp_path):
    cache = SeriesCache(tmp_path / "cache", EmptyPacs())
    with pytest.raises(RequestError, match="lists 0 instances") as refused:
        cache.update(Dataset.from_json(SERIES))
    assert refused.value.status_code == 503


def test_a_full_disk_is_not_the_fault_of_the_pacs(tmp_path, monkeypatch):
    class Instance(Dataset):
        def save_as(self, *args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    instance = Instance()
    instance.SOPInstanceUID = "1.2.3.1"
    pacs = pacs_at(9)
    monkeypatch.setattr(pacs, "instances", lambda series: {"1.2.3.1"})
    monkeypatch.setattr(pacs.client, "iter_series", lambda *args, **kwargs: [instance])
    with pytest.raises(DataError, match=r"No space left on device.*expected a folder with free space"):
        SeriesCache(tmp_path / "cache", pacs).update(Dataset.from_json(SERIES))


def make_cache(folder, *, limit_gb):
    """Four series of 1 MB, last asked for 5, 4, 3 days and 1 hour ago."""
    cache = SeriesCache(folder, Pacs(DICOMwebClient("http://127.0.0.1:9/dicom-web")), limit_gb)
    for number, age_h in enumerate((5 * 24, 4 * 24, 3 * 24, 1), start=1):
        series = folder / f"1.2.{number}"
        series.mkdir()
        (series / "1.dcm").write_bytes(bytes(400_000))
        (folder / f"1.2.{number}.nii.gz").write_bytes(bytes(600_000))
        then = time.time() - age_h * 3600
        os.utime(series, (then, then))
    (folder / "labels").mkdir()
    (folder / "labels" / "1.2.1.nii.gz").write_bytes(bytes(10_000_000))
    return cache


def kept(folder):
    return {path.name for path in folder.glob("1.*")}


def test_series_that_nobody_asks_for_make_room(tmp_path, caplog):
    cache = make_cache(tmp_path / "a", limit_gb=0.0025)
    cache._make_room()
    assert kept(tmp_path / "a") == {"1.2.3", "1.2.3.nii.gz", "1.2.4", "1.2.4.nii.gz"}
    assert (tmp_path / "a" / "labels" / "1.2.1.nii.gz").exists() and "more than its limit" not in caplog.text
    full = make_cache(tmp_path / "b", limit_gb=0.004)
    full._make_room()
    assert len(kept(tmp_path / "b")) == 8


def test_nothing_of_the_last_day_goes_and_that_is_said(tmp_path, caplog):
    make_cache(tmp_path / "a", limit_gb=1e-6)._make_room()
    assert kept(tmp_path / "a") == {"1.2.4", "1.2.4.nii.gz"} and "raise it with --conf cache_gb" in caplog.text


def test_a_series_that_another_process_holds_stays(tmp_path):
    cache = make_cache(tmp_path / "a", limit_gb=0.0025)
    with cache._alone("1.2.1"):
        cache._make_room()
    assert kept(tmp_path / "a") == {f"1.2.{k}{end}" for k in (1, 4) for end in ("", ".nii.gz")}


def test_a_use_that_does_not_count(tmp_path):
    cache = make_cache(tmp_path / "a", limit_gb=1)
    before, folder = cache.last_use("1.2.1"), tmp_path / "a" / "1.2.1"
    os.utime(folder)
    cache.set_back("1.2.1", cache.last_use("1.2.1"), before)
    assert cache.last_use("1.2.1") == before and cache.last_use("1.2.9") == 0
    os.utime(folder)
    now = cache.last_use("1.2.1")
    os.utime(folder, ns=(now + 1, now + 1))  # somebody asked for it meanwhile
    cache.set_back("1.2.1", now, before)
    assert cache.last_use("1.2.1") == now + 1


@pytest.mark.parametrize("given", ["a lot", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_none(tmp_path, given):
    app = make_app(tmp_path / "app", "skipts")
    with pytest.raises(OptionError, match="cache_gb is"), client(app, "http://127.0.0.1:9/dicom-web", cache_gb=given):
        pass


def test_scores_outlive_a_pacs_that_is_down(tmp_path):
    with answering(lambda handler: send(handler, 200, json.dumps([SERIES]).encode())) as port:
        store = PacsDatastore(DICOMwebClient(f"http://127.0.0.1:{port}/dicom-web"), cache_path=str(tmp_path), listing_seconds=60)
        store.update_image_info("1.2.3", {"anomaly": {"skipts": {"score": 1.0}}})
        assert store.get_unlabeled_images() == ["1.2.3"]
    served = ServedModel(root("skipts"), make_app(tmp_path / "app", "skipts"))
    assert AnomalyScoring(served)({}, store) == {"scored": 0, "scored_before": 0, "refused": 1}
    assert store.get_image_info("1.2.3")["anomaly"] == {"skipts": {"score": 1.0}}


def test_a_list_of_thousands_asks_once_which_masks_there_are(tmp_path, monkeypatch):
    asked = []
    store = PacsDatastore(DICOMwebClient("http://127.0.0.1:9/dicom-web"), cache_path=str(tmp_path))
    monkeypatch.setattr(store, "list_images", lambda: [f"1.{k}" for k in range(100)])
    monkeypatch.setattr(store.results, "newest", lambda: asked.append(1) or {"1.7": None})
    assert store.get_labeled_images() == ["1.7"] and len(store.get_unlabeled_images()) == 99 and len(asked) == 2


def test_several_modalities_are_asked_for_one_by_one():
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path.partition("?")[2].replace("00080060", "Modality"))
        send(handler, 200, json.dumps([] if "offset" in handler.path else [SERIES]).encode())

    with answering(answer) as port:
        pacs = pacs_at(port)
        assert [series.SeriesInstanceUID for series in pacs.search({"Modality": ("CT", "MR")})] == ["1.2.3"]
        pacs.search({"Modality": "PT,US", "PatientID": "7"})
        pacs.search({})
    wanted = ["Modality=CT", "Modality=MR", "PatientID=7&Modality=PT", "PatientID=7&Modality=US", ""]
    assert [{*one.split("&")} for one in asked] == [
        {*(f"{page}{one}".strip("&").split("&"))} for one in wanted for page in ("", "offset=1&")
    ]


def series_row(uid: str, modality: str = "CT") -> dict:
    return {**SERIES, "0020000E": {"vr": "UI", "Value": [uid]}, "00080060": {"vr": "CS", "Value": [modality]}}


@pytest.mark.parametrize("cap", [1, 2, 3, 100])
def test_a_pacs_that_gives_a_few_at_a_time_is_asked_for_the_rest(cap):
    rows = [series_row(f"1.2.{k}") for k in range(7)]

    def answer(handler: BaseHTTPRequestHandler) -> None:
        offset = int(parse_qs(urlsplit(handler.path).query).get("offset", ["0"])[0])
        send(handler, 200, json.dumps(rows[offset : offset + cap]).encode())

    with answering(answer) as port:
        assert [one.SeriesInstanceUID for one in pacs_at(port).search({"Modality": "CT"})] == [f"1.2.{k}" for k in range(7)]


def test_a_pacs_without_pages_or_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr("monai_anomaly.label.pacs.client.MOST_PAGES", 5)
    asked = []

    def same(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        instance = {"00080018": {"vr": "UI", "Value": ["1.2.3.1"]}}
        send(handler, 200, json.dumps([instance if "/instances" in handler.path else SERIES]).encode())

    with answering(same) as port:
        pacs = pacs_at(port)
        (series,) = pacs.search({"Modality": "CT"})
        assert pacs.instances(series) == {"1.2.3.1"} and len(asked) == 4
    with answering(lambda handler: send(handler, 200, json.dumps([series_row(f"1.2.{time.monotonic_ns()}")]).encode())) as port:
        with pytest.raises(RequestError, match="lists more than 5 entries") as refused:
            pacs_at(port).search({"Modality": "CT"})
    assert refused.value.status_code == 502


def test_an_odd_series_ends_no_list_and_is_told_once(caplog):
    with answering(lambda handler: send(handler, 200, json.dumps([series_row("../../x"), SERIES]).encode())) as port:
        pacs = pacs_at(port)
        for _ in range(2):
            assert [one.SeriesInstanceUID for one in pacs.search({"Modality": "CT"})] == ["1.2.3"]
    assert caplog.text.count("is passed over: '../../x' is no SeriesInstanceUID") == 1


@pytest.mark.parametrize("uid", ["", "..", ".", "1..2", "1.2.", "../1.2", "1.2/3", "1.2\n", "1" * 65, "a.b", "１.２"])
def test_what_is_no_uid(uid):
    with pytest.raises(RequestError, match="is no SeriesInstanceUID") as refused:
        check_uid(uid)
    assert refused.value.status_code == 404
