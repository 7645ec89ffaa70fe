"""The index of an export: for people, for spreadsheets, as a datalist, and as a command."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from monai_anomaly.__main__ import main
from monai_anomaly.data import Refusal, read_datalist, write_datalist
from monai_anomaly.data.cases import series_refusal
from monai_anomaly.data.find import find_sources
from monai_anomaly.data.index import COLUMNS, index_cases, index_rows, index_table
from monai_anomaly.data.sources import Source
from monai_anomaly.files import write_csv

CT = Source(
    [f"a/{n}" for n in range(24)],
    "a",
    "p-0123456789ab",
    "s-0123456789ab",
    "stack",
    "CT",
    (512, 512, 24),
    (0.48828125, 0.48828125, 2.5),
    "axial",
)
MR = Source("b/mr", "b/mr", "p-ffff56789abc", "s-ffff56789abc", "volume", "MR", (256, 240, 1100), (0.1, 1.0, 123.456), "oblique")
CINE = Source("b/us", "b/us", "p-ffff56789abc", "s-00000000000a", "frames", "US", (480, 640, 30))
XRAYS = [Source(f"x/{n}", f"x/{n}", "p-ffff56789abc", f"s-{n:012x}", "picture", "DX", (2000 + n, 1500, 1)) for n in range(3)]
PNGS = [Source(f"photos/{n}.png", f"photos/{n}", f"photos_{n}", f"photos_{n}", "picture", "", (300, 200, 1)) for n in range(1000)]
ALL = [CT, MR, CINE, *XRAYS, *PNGS]
REFUSED = [
    series_refusal(
        "s-9c6cb5c4e2aa",
        "c/x-0123456789ab/T2",
        "The slices are not evenly spaced: 2.500 mm expected, 5.000 mm found between " * 2,
        17,
    ),
    *[Refusal(f"d/{n}.dcm", f"The file holds {n} bytes; expected 1,234.") for n in range(7)],
    Refusal("entries 5 to 9", "It is encrypted.", 5),
]
TABLE = """\
patient         modality  series          kind            slices  rows x columns    spacing in mm        plane    verdict
-               -         photos/*        1,000 pictures       1  300 x 200         -                    -        read
-               -         s-9c6cb5c4e2aa  series              17  -                 -                    -        refused
    in c/x-0123456789ab/T2: The slices are not evenly spaced: 2.500 mm expected, 5.000 mm found between The slices are not evenly spaced:
    2.500 mm expected, 5.000 mm found between
p-0123456789ab  CT        s-0123456789ab  stack               24  512 x 512         0.488 x 0.488 x 2.5  axial    read
p-ffff56789abc  DX        x/*             3 pictures           1  2000-2002 x 1500  -                    -        read
p-ffff56789abc  MR        s-ffff56789abc  volume           1,100  256 x 240         0.1 x 1 x 123        oblique  read
p-ffff56789abc  US        s-00000000000a  frames              30  480 x 640         -                    -        read

1,058 files found: 1,029 read as 1,006 series or images of 1,002 patients (each file that names none counted as one), 29 refused.

Refused, by reason (refused series stand in the table):
  7 files: for instance: The file holds 0 bytes; expected 1,234.
    d/0.dcm, d/1.dcm, d/2.dcm, and 4 more
  5 files: It is encrypted.
    entries 5 to 9
"""


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8), dtype=np.uint8)).save(path, format="PNG")


def text(*args):
    return "".join(f"{line}\n" for line in index_table(*args))


def test_the_table():
    shuffled = random.Random(0).sample(ALL, len(ALL))
    assert text([*XRAYS, *(one for one in shuffled if one not in XRAYS)], REFUSED, 1058) == TABLE


def test_numbers_sort_as_numbers_but_not_those_of_pseudonyms():
    names = ["p-1aaaaaaaaaaa", "p-02aaaaaaaaaa", "patient 10", "patient 9"]
    sources = [replace(MR, patient=name) for name in names]
    lines = list(index_table(sources, [], 4))[1:5]
    assert [line[:14].strip() for line in lines] == ["patient 9", "patient 10", "p-02aaaaaaaaaa", "p-1aaaaaaaaaaa"]


def test_never_wider_than_140():
    """Identifiers that are kept, NIfTI volumes called after long paths, and reasons without a blank."""
    uid = ".".join(["1.2.840.113619"] * 4)
    wide = [
        replace(
            MR,
            patient="Mustermann^Erika " * 4,
            series=f"{uid}-{n}",
            modality="MODALITYX123456",
            plane="sagittal",
            spacing_mm=(0.04881, 1e300, 99999),
        )
        for n in range(3)
    ]
    wide += [replace(one, shape=(10_000 + n, 10_000 + n, 1), place=f"{'deep/' * 30}{n}") for n, one in enumerate(PNGS[:3])]
    lines = list(index_table(wide, [Refusal("x" * 300, "y" * 300), series_refusal(uid, "z" * 200, "w" * 200, 3)], 10))
    assert max(map(len, lines)) <= 140
    assert sum("..." in line and f"619-{n}" in line for n in range(3) for line in lines) == 3  # the end of a name tells it apart


def test_pictures_that_differ():
    sizes = [replace(one, shape=(200 + n, 100, 1), spacing_mm=(0.1 * (n + 1),) * 3) for n, one in enumerate(XRAYS)]
    assert list(index_table(sizes, [], 3))[1].split()[-6:] == ["200-202", "x", "100", "different", "-", "read"]


@pytest.mark.parametrize(
    ("sources", "refused", "words"),
    [
        ([], [], "0 files found: 0 read as 0 series or images of 0 patients, 0 refused."),
        ([MR], [], "1 file found: 1 read as 1 series or image of 1 patient, 0 refused."),
        (PNGS[:1], [], "1 file found: 1 read as 1 series or image of 1 patient, 0 refused."),
        ([], [Refusal("1", "no")], "1 file found: 0 read as 0 series or images of 0 patients, 1 refused."),
    ],
)
def test_the_counts(sources, refused, words):
    assert words in list(index_table(sources, refused, len(sources) + len(refused)))


def test_many_reasons_are_cut_and_counted():
    lines = list(index_table([], [Refusal(f"{n}", "no" * (n + 1), n + 1) for n in range(60)], 1830))
    assert lines[-1] == "  55 files: 10 other reasons; the table in CSV lists all."  # 1 + 2 + ... + 10
    assert sum("files: no" in line for line in lines) == 50


def test_names_cannot_speak_to_the_terminal():
    evil = "\x1b[2J\x07a\nb\u202ec\udcff"
    sources = [
        replace(MR, patient=evil, series=evil, modality=evil, place=evil),
        replace(PNGS[0], place=f"{evil}/1"),
        replace(PNGS[1], place=f"{evil}/2"),
    ]
    lines = list(index_table(sources, [Refusal(evil, evil), series_refusal(evil, evil, evil, 2)], 6))
    assert all(line.isprintable() for line in lines) and sum("?[2J?a" in line for line in lines) >= 4
    "\n".join(lines).encode()


def test_rows_hold_everything(tmp_path):
    rows = index_rows(ALL, REFUSED)
    assert len(rows) == len(ALL) + len(REFUSED) and all(tuple(row) == COLUMNS for row in rows)
    assert sum(row["files"] for row in rows) == 1058
    assert rows[0] == {
        "verdict": "read", "patient": "p-0123456789ab", "series": "s-0123456789ab", "modality": "CT", "kind": "stack", "files": 24, "rows": 512,
        "columns": 512, "slices": 24, "spacing_rows_mm": 0.48828125, "spacing_columns_mm": 0.48828125, "spacing_slices_mm": 2.5, "plane": "axial",
        "place": "a", "reason": None,
    }  # fmt: skip
    assert (rows[-9]["series"], rows[-9]["place"], rows[-9]["files"]) == ("s-9c6cb5c4e2aa", "c/x-0123456789ab/T2", 17)
    assert rows[2]["spacing_rows_mm"] is None
    with write_csv(tmp_path / "t.csv", rows, columns=COLUMNS).open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_cases_are_sorted_by_patient_and_come_back(tmp_path, series):
    for n, patient in enumerate(["B", "A", "B"]):
        series(tmp_path / f"{n}", uid=f"1.2.{n}", patient=patient, n=3)
    picture(tmp_path / "3.png")
    sources, _, _, _ = find_sources(tmp_path)
    cases = index_cases(sources)
    patients = [case["patient"] for case in cases]
    assert len(cases) == 4 and patients == sorted(patients) and len(set(patients)) == 3
    back = read_datalist(write_datalist(tmp_path / "list.json", cases))
    assert [dict(case) for case in back.cases] == [dict(case) for case in cases] and not back.refused


@pytest.fixture
def export(tmp_path, series):
    """Two patients, one image, one broken series, one file that is nothing."""
    folder = tmp_path / "export"
    series(folder / "Canary_Tweety/CT", uid="1.2.3", patient="Canary^Tweety", n=3)
    series(folder / "b/HEAD", uid="1.2.4", patient="Doe^John", n=4)
    series(folder / "Canary_Tweety/bad", uid="1.2.5", patient="Canary^Tweety", n=5)
    (folder / "Canary_Tweety/bad/IM0002").unlink()
    picture(folder / "photo.png")
    (folder / "what.xyz").write_bytes(b"nothing known")
    return folder


def index(*args):
    return main(["index", *map(str, args)])


def test_the_command(export, tmp_path, capsys):
    assert index(export, "--out", tmp_path / "list.json", "--csv", tmp_path / "new/table.csv") == 0
    out, err = capsys.readouterr()
    assert "13 files found: 8 read as 3 series or images of 3 patients" in out and ", 5 refused." in out and not err
    assert "2.500 mm expected, 5.000 mm found" in out and "1 file: The content is none of" in out
    rows = list(csv.DictReader((tmp_path / "new/table.csv").read_text().splitlines()))
    assert [row["verdict"] for row in rows].count("read") == 3 and sum(int(row["files"]) for row in rows) == 13
    cases = json.loads((tmp_path / "list.json").read_text())
    assert [len(cases["training"]), len(cases["testing"])] == [0, 3]
    for sign in ("canary", "tweety", "doe", "1.2.3", "1.2.5"):
        assert sign not in (out + (tmp_path / "new/table.csv").read_text()).lower()


def test_identifiers_are_kept_when_asked(export, capsys):
    assert index(export, "--keep_ids") == 0
    out = capsys.readouterr().out
    assert "Canary^Tweety" in out and "1.2.3" in out and "series" in out and "Canary_Tweety/bad" in out


def test_a_file_with_a_series_in_its_name_is_no_series(tmp_path):
    (tmp_path / "series 3 in T2").mkdir()
    (tmp_path / "series 3 in T2/1.png").write_bytes(b"no picture")
    _, refused, _, _ = find_sources(tmp_path)
    (row,) = index_rows([], refused)
    assert (row["series"], row["place"]) == (None, "series 3 in T2/1.png")
    assert list(index_table([], refused, 1))[-1].strip() == "series 3 in T2/1.png"


def test_a_blank_series_is_called_after_its_folder_when_names_are_kept(tmp_path, series):
    series(tmp_path / "My Series", n=4, change=lambda dataset, k: setattr(dataset, "SeriesInstanceUID", ""))
    (tmp_path / "My Series/IM0001").unlink()
    _, refused, _, _ = find_sources(tmp_path, keep_ids=True)
    (row,) = index_rows([], refused)
    assert (row["series"], row["place"], row["files"]) == ("My Series", "My Series", 3)


def test_an_archive_of_it_says_the_same(export, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert index(export) == 0
    folder = capsys.readouterr().out
    shutil.make_archive(str(tmp_path / "export"), "zip", export)
    assert index(tmp_path / "export.zip") == 0
    assert capsys.readouterr().out == folder


def test_nothing_is_overwritten_without_force(export, tmp_path, capsys):
    for option in ("--out", "--csv"):
        (tmp_path / "mine").write_text("mine")
        assert index(export, option, tmp_path / "mine") == 2
        out, err = capsys.readouterr()
        assert "exists; expected a new file" in err and not out and (tmp_path / "mine").read_text() == "mine"
        assert index(export, option, tmp_path / "mine", "--force") == 0 and capsys.readouterr().out
        assert (tmp_path / "mine").read_text() != "mine"
    assert index(export, "--out", tmp_path / "x", "--csv", tmp_path / "x") == 2 and not (tmp_path / "x").exists()


def test_nothing_readable_is_status_2_with_the_reasons(tmp_path, capsys):
    (tmp_path / "what.xyz").write_bytes(b"nothing known")
    assert index(tmp_path, "--out", tmp_path / "list.json") == 2
    out, err = capsys.readouterr()
    assert "1 file found: 0 read" in out and "expected images" in err and not (tmp_path / "list.json").exists()
    assert index(tmp_path / "absent") == 2 and "expected" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough(export):
    """As under ``| head``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "monai_anomaly", "index", str(export)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.returncode == 0 and not done.stderr


def test_a_terminal_without_the_letters(tmp_path, monkeypatch):
    picture(tmp_path / "größe.png")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert index(tmp_path) == 0
    assert b"gr??e" in screen.buffer.getvalue()


def test_a_thousand_pictures_are_one_row(tmp_path):
    for n in range(1000):
        picture(tmp_path / f"photos/{n}.png", n)
    sources, refused, n_files, _ = find_sources(tmp_path)
    lines = list(index_table(sources, refused, n_files))
    assert len(lines) == 4 and lines[1].split() == ["-", "-", "photos/*", "1,000", "pictures", "1", "6", "x", "8", "-", "-", "read"]


@pytest.mark.real
def test_the_real_folder_adds_up(shared):
    sources, refused, n_files, _ = find_sources(shared / "data/dicom")
    rows = index_rows(sources, refused)
    assert sum(row["files"] for row in rows) == n_files > 250
    assert max(map(len, index_table(sources, refused, n_files))) <= 140
