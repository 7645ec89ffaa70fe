"""Files are whole or absent, names safe, tables and JSON readable by others."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from monai_anomaly.errors import DataError, OptionError
from monai_anomaly.files import refuse_existing, safe_name, write_csv, write_json, write_whole


def test_bytes_and_functions_make_the_same_file(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(b"ab")
        file.write(b"c")

    assert write_whole(tmp_path / "x" / "y" / "a", b"abc").read_bytes() == write_whole(str(tmp_path / "b"), write).read_bytes() == b"abc"
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a", "b"]


def test_a_failing_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a", b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.bin", b"old")

    def die(file: BinaryIO) -> None:
        file.write(b"half of the new" * 100_000)
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        write_whole(path, die)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert path.read_bytes() == b"old" and len(list(tmp_path.glob(".*.part"))) == 1
    assert write_whole(path, b"new").read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        assert write_whole(tmp_path / "a", b"").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"")
    with pytest.raises(DataError, match="could not be written"):
        write_whole(tmp_path / "file" / "below", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="could not be written"):
        write_whole(tmp_path / "folder", b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


NASTY = [
    "",
    ".",
    "..",
    "...",
    "a/b",
    "a\\b",
    "a b",
    "a_b",
    "ä",
    "a\n",
    "-rf",
    ".hidden",
    "x" * 5000,
    "x" * 5001,
    "CON",
    "nul.txt",
    "a.",
    "\ud800",
    "名前",
    "../..",
    "a\0b",
]


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "astray").symlink_to(tmp_path / "nowhere")
    refuse_existing(tmp_path / "new")
    refuse_existing(tmp_path / "astray", force=True)
    with pytest.raises(OptionError, match=r"astray exists; expected a new file: choose another name, or add --force"):
        refuse_existing(tmp_path / "astray")


def test_names_are_safe_and_distinct() -> None:
    names = [safe_name(text) for text in NASTY]
    assert len(set(names)) == len(NASTY)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,98}[A-Za-z0-9_-]", name)
        assert name.split(".")[0].lower() not in ("con", "nul")
    assert safe_name("a/b") == safe_name("a/b")


@pytest.mark.parametrize("text", ["series-07", "A.b_c", "0", "benign_12.dcm"])
def test_a_safe_name_stays(text: str) -> None:
    assert safe_name(text) == text


def test_a_name_that_looks_like_a_replaced_one_does_not_collide() -> None:
    assert safe_name(safe_name("a b")) != safe_name("a b")
    assert len(safe_name("x y" * 50, max_length=20)) == 20
    assert safe_name("con." + "a" * 200).startswith("_con.a") and len(safe_name("con." + "a" * 200)) == 100  # Windows keeps con.* to itself


def test_json_is_strict_and_says_what_it_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data: dict[object, object] = {"a": np.float32(0.5), "b": (1, np.int64(2))}
    data |= {"c": {"d": [1.0, float("nan")]}, "e": np.array([np.inf, 1.0]), "f": Path("x") / "y", 7: True, "ü": None}
    with caplog.at_level(logging.WARNING):
        path = write_json(tmp_path / "r.json", data)
    read = json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read == {"a": 0.5, "b": [1, 2], "c": {"d": [1.0, None]}, "e": [None, 1.0], "f": "x/y", "7": True, "ü": None}
    assert len(caplog.records) == 1 and "c.d[1], e[0]" in caplog.text


def test_json_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.b\[0\] is a set"):
        write_json(tmp_path / "r.json", {"a": {"b": [{1}]}})
    assert not list(tmp_path.iterdir())


def test_csv_reads_back(tmp_path: Path) -> None:
    rows = [{"a": 'x,"y"\nz', "b": -0.1, "c": None}, {"c": 3, "b": 1e-300, "a": "ü"}]
    with write_csv(tmp_path / "t.csv", rows).open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"a": 'x,"y"\nz', "b": "-0.1", "c": ""}, {"a": "ü", "b": "1e-300", "c": "3"}]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", " =1", "\r=1"])
def test_csv_cells_run_no_formula(tmp_path: Path, cell: str) -> None:
    with write_csv(tmp_path / "t.csv", [{"a": cell}]).open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["a"] == "'" + cell.replace("\r", "\n")


def test_csv_rows_agree(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Row 2"):
        write_csv(tmp_path / "t.csv", [{"a": 1}, {"a": 1, "b": 2}])
    assert write_csv(tmp_path / "t.csv", []).read_bytes() == b""
