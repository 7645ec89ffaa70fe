"""From a PACS to a detector and back: what ``docs/pacs.md`` tells, done once by a program that checks every step.

It starts Orthanc (Debian: ``apt-get install orthanc orthanc-dicomweb``) and MONAI Label for this machine alone, pushes series, trains a demonstration on the
normal ones, lets it judge others, saves accepted masks, and looks at what then lies in the PACS. Run it in the environment of ``make label``::

    python apps/anomaly/round_trip.py --out results ../export/series_7
"""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import requests
from checks import check_affine, check_results, expect, read_series, say
from dicomweb_client import DICOMwebClient
from programs import has_orthanc, running_orthanc, running_server
from requests_toolbelt.multipart.decoder import MultipartDecoder

from monai_anomaly.data import write_study
from monai_anomaly.pack import lay_out_bundle

MODEL = "skipts"
DEMONSTRATION = {"epochs": 1, "image_size": 64, "backbone": "resnet18", "teacher_weights": "random"}
"""Minutes instead of hours, and good for nothing else."""
N_NORMAL = 12
TRAINING_S = 1800.0


def push(pacs: DICOMwebClient, slices: list[pydicom.Dataset]) -> str:
    """Store a series and name it."""
    stored = pacs.store_instances(slices).ReferencedSOPSequence
    expect(len(stored) == len(slices), f"the PACS has taken {len(stored)} of {len(slices)} instances ({slices[0].Modality})")
    return str(slices[0].SeriesInstanceUID)


def infer(server: str, image: str, model: str, **params: Any) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """JSON, voxels (column, row, slice) and affine of what a model says."""
    answer = requests.post(f"{server}/infer/{model}", params={"image": image}, data={"params": json.dumps(params)}, timeout=600)
    expect(answer.ok, f"{model} answers" if answer.ok else f"{model} answers: {answer.status_code} {answer.text}")
    parts = {part.headers[b"Content-Disposition"]: part.content for part in MultipartDecoder.from_response(answer).parts}
    (told,) = (json.loads(content) for name, content in parts.items() if b'"params"' in name)
    (file,) = (content for name, content in parts.items() if b'"image"' in name)
    volume = nib.Nifti1Image.from_bytes(gzip.decompress(file))
    return told, np.asarray(volume.dataobj), volume.affine


def accept(server: str, image: str, mask: np.ndarray, affine: np.ndarray) -> None:
    """Save a mask as final, as 3D Slicer's "Submit Label" does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "label.nii.gz"
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
        params = {"params": json.dumps({"label_info": [{"name": "anomaly", "idx": 1}]})}
        with path.open("rb") as file:
            saved = requests.put(
                f"{server}/datastore/label",
                params={"image": image, "tag": "final"},
                data=params,
                files={"label": (path.name, file)},
                timeout=600,
            )
    expect(saved.ok, "the mask is saved" if saved.ok else f"the mask is saved: {saved.status_code} {saved.text}")


def train(server: str, normals: list[str]) -> None:
    """Mark series as normal and train on them in the background."""
    for image in normals:
        marked = requests.put(
            f"{server}/datastore/image/info", params={"image": image}, data={"info": json.dumps({"normal": True})}, timeout=60
        )
        if not marked.ok:
            raise SystemExit(f"NOT SO: a series is marked normal: {marked.status_code} {marked.text}")
    expect(requests.post(f"{server}/train/{MODEL}", json=DEMONSTRATION, timeout=60).ok, f"training on {len(normals)} normal series begins")
    end = time.monotonic() + TRAINING_S
    while time.monotonic() < end:
        state = requests.get(f"{server}/train/", timeout=60).json()
        if state["status"] not in ("SUBMITTED", "RUNNING"):
            break
        time.sleep(2)
    last = "" if state["status"] == "DONE" else "\n".join(map(str, state.get("details", [])))
    expect(state["status"] == "DONE", f"the training ends: {state['status']} {last}")


def judge_and_accept(server: str, pacs: DICOMwebClient, slices: list[pydicom.Dataset], path: Path, keep: bool) -> None:
    """One series: what the model says, what a radiologist makes of it, and what the PACS then holds."""
    image = str(slices[0].SeriesInstanceUID)
    told, mask, affine = infer(server, image, MODEL)
    say(f"  score {told['anomaly_score']:.3f}, p {told['p_value']:.3f}, {told['n_findings']} findings, {int(mask.sum())} voxels marked")
    check_affine(affine, slices)
    _, values, _ = infer(server, image, f"{MODEL}_map")
    if keep:  # what the model marked, and a corner that a person adds, so that an exchange of sides would be seen
        mask = mask.copy()
        mask[1 : mask.shape[0] // 4, 2 : mask.shape[1] // 3, -1] = 1
    else:
        mask = np.zeros_like(mask)
    accept(server, image, mask, affine)
    check_results(pacs, slices, mask, values, path)
    info = requests.get(f"{server}/datastore/image/info", params={"image": image}, timeout=60).json()
    expect(info["normal"] is not keep, f"the series counts as {'not ' if keep else ''}normal")


def next_sample(server: str, wait_s: float = 0.0) -> str | None:
    """What the server wants to be looked at next, if there is anything."""
    end = time.monotonic() + wait_s
    while True:
        answer = requests.post(f"{server}/activelearning/most_anomalous", json={}, timeout=60)
        answer.raise_for_status()
        if answer.json().get("id") or time.monotonic() > end:
            return answer.json().get("id")
        time.sleep(1)


def main() -> None:
    """The whole way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", nargs="*", type=Path, help="folders of one CT or MR series each (default: only the built-in study)")
    parser.add_argument(
        "--out", type=Path, help="where the DICOM results, the server's log and its app with the model go (default: they are removed)"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # else the programs that it started would stay
    if not has_orthanc():
        raise SystemExit("Orthanc is not installed; expected it with its DICOMweb plugin: apt-get install orthanc orthanc-dicomweb")
    with tempfile.TemporaryDirectory() as scratch:
        out = (options.out or Path(scratch) / "results").absolute()
        out.mkdir(parents=True, exist_ok=True)
        round_trip(Path(scratch), out, options.series)


def round_trip(scratch: Path, out: Path, folders: list[Path]) -> None:
    """Everything, with all programs' files below ``scratch``."""
    given = [read_series(folder) for folder in folders]
    study = write_study(scratch / "study", progress=False)
    cases = json.loads((study / "datalist.json").read_text())
    normals = [read_series(study / case["image"]) for case in cases["training"][:N_NORMAL]]
    lesions = [read_series(study / case["image"]) for case in cases["testing"] if case["group"] != "good"]
    judged = [*given, lesions[0]]
    untrained = str(lay_out_bundle(MODEL, scratch / "bundles"))  # the checkout's own may have been trained
    settings = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(scratch / "cache"), "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    with ExitStack() as orthanc:
        url = orthanc.enter_context(running_orthanc(scratch / "orthanc"))
        pacs = DICOMwebClient(url)
        say(f"Orthanc answers at {url}")
        marked = [push(pacs, slices) for slices in normals]
        for slices in judged:
            push(pacs, slices)
        with running_server(out, url, untrained, settings) as server:
            say(f"MONAI Label answers at {server}")
            refused = requests.post(f"{server}/infer/{MODEL}", params={"image": marked[0]}, timeout=60)
            expect("not trained yet" in refused.text, f"a model that is not there yet: {refused.status_code} {refused.json()['detail']}")
            train(server, marked)
            for number, slices in enumerate(judged, start=1):
                say(f"A series of {len(slices)} {slices[0].Modality} images")
                judge_and_accept(server, pacs, slices, out / f"{number}_{slices[0].Modality}", keep=True)
            say("A series that the radiologist finds normal")
            judge_and_accept(server, pacs, normals[0], out / "normal", keep=False)
            expect(next_sample(server) is None, "nothing is left to be looked at: no mask and no map counts as a series of images")
            late = push(pacs, lesions[1])
            expect(next_sample(server, wait_s=30) == late, "a series that is pushed later comes up without a restart")
            orthanc.close()
            refused = requests.post(f"{server}/infer/{MODEL}", params={"image": late}, timeout=60)
            expect(refused.status_code == 503, f"a PACS that is down: {refused.status_code} {refused.json()['detail']}")
    say(f"Done. DICOM results: {out}")


if __name__ == "__main__":
    main()
