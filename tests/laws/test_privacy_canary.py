"""What goes with promise 2: no name, identifier or date of a patient leaves the files that hold them.

A canary sings in every field; it must be heard nowhere.
"""

from __future__ import annotations

import csv
import gzip
import logging
import shutil
from pathlib import Path

import numpy as np
import pydicom.uid as sop
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from support.bundles import SMALL, run_bundle
from support.dicom import make_picture, make_series
from support.dicom_frames import make_enhanced

from monai_anomaly.data import find_cases, write_datalist

FIELDS = {
    "PatientName": "Kanarienvogel^Zwitscher", "PatientID": "K4N4R1-7731905", "PatientBirthDate": "19310203", "StudyDate": "20191104",
    "AccessionNumber": "ACC88776655", "InstitutionName": "Gelbfeder Krankenhaus", "OtherPatientIDs": "Piepmatz-9", "ReferringPhysicianName": "Amsel^Frieda",
    "StudyID": "S5551212",
}  # fmt: skip
CANARIES = (
    "kanarienvogel", "zwitscher", "k4n4r1", "7731905", "19310203", "1931-02-03", "03.02.1931", "20191104", "2019-11-04", "acc88776655", "gelbfeder",
    "piepmatz", "frieda", "5551212",
)  # fmt: skip
PLACES = ("Kanarienvogel, Zwitscher", "K4N4R1-7731905", "2019-11-04", "zwitscher_kanarienvogel_19310203")
"""Names of folders, as exports have them."""


def sing(dataset: Dataset, _: int) -> None:
    for keyword, value in FIELDS.items():
        setattr(dataset, keyword, value)


def write_export(folder: Path) -> Path:
    """A stack, a gap, an enhanced file, a radiograph, a cine, unreadable and empty files, one cut off, and one that is no image, all of one patient."""
    rng = np.random.default_rng(0)
    make_series(folder / PLACES[0] / PLACES[2] / "CT", n=3, shape=(40, 40), origin=(0, 0, 0), change=sing, name="Kanarienvogel_{}.dcm")
    make_series(folder / PLACES[1] / "gap", n=4, change=sing, uid="1.2.826.0.1.3680043.10.77", name="K4N4R1-7731905_{}")
    (folder / PLACES[1] / "gap/K4N4R1-7731905_1").unlink()
    make_enhanced(folder / PLACES[3] / "20191104.dcm", shape=(40, 40), origin=(0, 0, 0), n=2, change=sing)
    picture, cine = rng.integers(0, 4096, (40, 40)).astype(np.uint16), rng.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    make_picture(
        folder / PLACES[0] / "ACC88776655", picture, modality="CR", sop_class=sop.ComputedRadiographyImageStorage, bits=12, change=sing
    )
    make_picture(folder / PLACES[0] / "Zwitscher.dcm", cine, modality="US", frame_time_ms=40, change=sing)
    whole = (folder / PLACES[0] / PLACES[2] / "CT/Kanarienvogel_0.dcm").read_bytes()
    (folder / PLACES[0] / "Kanarienvogel cut off.dcm").write_bytes(whole[:-900])
    (folder / PLACES[0] / "Kanarienvogel spoiled.dcm").write_bytes(whole[: whole.index(b"Kanarienvogel") + 60])
    (folder / "Zwitscher leer.dcm").touch()
    (folder / "19310203 noise.dcm").write_bytes(bytes(128) + b"DICM" + rng.bytes(300))
    make_picture(folder / PLACES[1] / "Piepmatz-9.dcm", picture, modality="SR", change=sing)
    return folder


def songs(where: str, text: str) -> list[str]:
    """Where a canary is heard, and which one."""
    return [f"{where}: {canary} in ...{text.lower().split(canary)[0][-60:]!r}" for canary in CANARIES if canary in text.lower()]


def songs_in(folder: Path) -> list[str]:
    """Names of files and folders, and every byte of them, unpacked where they are packed."""
    heard = []
    for path in folder.rglob("*"):
        heard += songs("name", str(path.relative_to(folder)))
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        heard += songs(str(path.relative_to(folder)), content.decode("latin-1"))
        if path.suffix == ".png":
            with Image.open(path) as image:
                heard += songs(f"text of {path.name}", str(image.info))
    return heard


def table(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="") as file:
        return sorted((row["patient"], row["series"]) for row in csv.DictReader(file) if "series" in row)


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> Path:
    return write_export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A run on normal scans of four patients, each with a canary, and what it logged."""
    folder = tmp_path_factory.mktemp("training") / "set"
    rng = np.random.default_rng(1)
    for patient in range(4):

        def change(dataset: Dataset, k: int, patient: int = patient) -> None:
            sing(dataset, k)
            dataset.PatientID = f"K4N4R1-773190{patient}"

        where = folder / ("train" if patient < 3 else "test") / "good" / f"{PLACES[0]} {patient}" / PLACES[2]
        make_series(where, n=4, shape=(40, 40), change=change, pixels=rng.normal(40, 20, (40, 40, 4)), name="Kanarienvogel_{}.dcm")
        shutil.copy(where / "Kanarienvogel_0.dcm", where / "Kanarienvogel_again.dcm") if patient == 2 else None
    records: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage() + str(record.exc_info or ""))

    handler, root = Listen(logging.DEBUG), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        run_bundle("train", dataset_dir=str(folder), output_dir=str(folder.parent / "out"), calibration_fraction=0.25, **SMALL)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return folder.parent / "out", "\n".join(records)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_finding(export, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    found = find_cases(export)
    assert len(found.cases) == 4 and sum(refusal.files for refusal in found.refused) == 8, found
    shown = str([{key: value for key, value in case.items() if key not in ("image", "mask")} for case in found.cases]) + str(found.refused)
    assert not songs("cases", shown) + songs("log", caplog.text) + songs("output", "".join(capfd.readouterr()))
    assert len({case["patient"] for case in found.cases}) == 1 and len({case["series"] for case in found.cases}) == 4


def test_the_canaries_are_there(export, tmp_path):
    """Else silence would prove nothing; and the datalist may name paths."""
    heard = songs_in(export)
    assert {canary for canary in CANARIES if any(f": {canary} in" in song for song in heard)} >= set(CANARIES) - {
        "1931-02-03",
        "03.02.1931",
    }
    assert songs("datalist", write_datalist(tmp_path / "datalist.json", find_cases(export).cases).read_text())


def test_training(trained):
    out, log = trained
    assert "Kanarienvogel" not in log and any(path.name.startswith("events") for path in out.rglob("*"))
    assert not songs("log", log) + songs_in(out)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_inference(export, trained, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    run_bundle("inference", dataset_dir=str(export), model=str(trained[0] / "model.pt"), output_dir=str(tmp_path / "out"))
    written = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {".csv", ".json", ".png", ".gz"} <= written
    assert not songs("log", caplog.text) + songs("output", "".join(capfd.readouterr())) + songs_in(tmp_path / "out")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pseudonyms_are_stable(export, trained, tmp_path):
    """The same names in another run, of the export somewhere else."""
    moved = tmp_path / "moved"
    shutil.copytree(export, moved)
    names = []
    for number, folder in enumerate((export, moved)):
        out = tmp_path / str(number)
        run_bundle("inference", dataset_dir=str(folder), model=str(trained[0] / "model.pt"), output_dir=str(out))
        names.append((sorted(str(path.relative_to(out)) for path in out.rglob("*")), table(out / "images.csv")))
    assert names[0] == names[1] and len({series for _, series in names[0][1]}) == 4
    assert len({patient for patient, _ in names[0][1]}) == 1


def test_another_patient_has_another_pseudonym(export, tmp_path):
    make_series(tmp_path / "other", n=2, patient="somebody else")
    (other,) = find_cases(tmp_path / "other").cases
    assert other["patient"] not in {case["patient"] for case in find_cases(export).cases}
