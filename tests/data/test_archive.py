"""Archives from strangers: nothing outside, nothing halfway, nothing without bounds."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from monai_anomaly.data import archive
from monai_anomaly.data.archive import unpack
from monai_anomaly.errors import DataError

GOOD = {"a/1.dcm": b"one", "a/b/2.dcm": b"two" * 1000}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/monai_anomaly/unpacked"


def pack(path: Path, *more: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write an archive of ``GOOD`` and more."""
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in [*GOOD.items(), *more]:
            out.writestr(name, content, compress_type=method)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if not path.is_dir()}


def edit(path: Path, change: Callable[[bytearray, int], None], which: int = -1) -> Path:
    """Change the entry of one file (the last) in the table of contents."""
    data = bytearray(path.read_bytes())
    starts = [n for n in range(len(data)) if data[n : n + 4] == b"PK\x01\x02"]
    change(data, starts[which])
    path.write_bytes(data)
    return path


def put(code: str, offset: int, value: int) -> Callable[[bytearray, int], None]:
    return lambda data, start: struct.pack_into(code, data, start + offset, value)


CRC, PACKED, SIZE, FLAGS, METHOD = ("<I", 16), ("<I", 20), ("<I", 24), ("<H", 8), ("<H", 10)


def test_files_and_folders(tmp_path, cache):
    mask = os.umask(0o027)
    try:
        path = pack(tmp_path / "x.zip", ("deep/er/", b""), ("empty", b""), ("./a//./3", b"three"))
        executable = zipfile.ZipInfo("run.sh")
        executable.external_attr = (stat.S_IFREG | 0o4755) << 16
        with zipfile.ZipFile(path, "a") as out:
            out.writestr(executable, b"#!/bin/sh")
        folder, refused = unpack(path)
    finally:
        os.umask(mask)
    assert content(folder) == {**GOOD, "empty": b"", "a/3": b"three", "run.sh": b"#!/bin/sh"} and not refused
    assert folder.is_relative_to(cache)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()} == {0o640}
    assert stat.S_IMODE(folder.parent.stat().st_mode) == stat.S_IMODE(cache.stat().st_mode) == 0o700


BAD_NAMES = {
    "../evil": "leads out",
    "a/../../evil": "leads out",
    "a/..": "leads out",
    "a/.. /evil": "leads out",
    "/etc/evil": "absolute",
    "//server/evil": "absolute",
    "C:/evil": "drive letter",
    "c:evil": "drive letter",
    "..\\evil": "backslash",
    "a\\evil": "backslash",
    "a\0.dcm": "control character",
    "a\n1": "control character",
    "\x1b[2Jevil": "control character",
    "x" * 300: "too long",
    "é" * 101: "too long",
    "/".join(["long"] * 60) + "/" + "y" * 190 + "/" + "z" * 190 + "/" + "z" * 190: "too long",
    "/".join(["d"] * 65): "too long",
    "a/": "no file's name",
    "a/.": "no file's name",
    "..": "leads out",
}


@pytest.mark.parametrize("name", BAD_NAMES, ids=[f"{n}-{why}" for n, why in enumerate(BAD_NAMES.values())])
def test_names_that_lead_elsewhere(tmp_path, cache, name):
    info = zipfile.ZipInfo("x" * len(name.encode()))
    path = pack(tmp_path / "x.zip", (info, b"evil"))
    data = path.read_bytes()  # zipfile writes no NUL, so the name is put in afterwards
    path.write_bytes(data.replace(b"x" * len(name.encode()), name.encode()))
    if not name.isascii():
        edit(path, put(*FLAGS, 0x800))
    before = sorted(tmp_path.rglob("*"))
    folder, (refusal,) = unpack(path)
    assert content(folder) == GOOD
    assert refusal.where == "entry 3" and BAD_NAMES[name] in refusal.reason and refusal.files == 1
    assert {new for new in tmp_path.rglob("*") if new not in before and not new.is_relative_to(cache)} == {tmp_path / "cache", cache.parent}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_and_devices(tmp_path, kind):
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (kind | 0o777) << 16
    under = zipfile.ZipInfo("link/passwd")
    folder, refused = unpack(pack(tmp_path / "x.zip", (link, b"/etc"), (under, b"mine")))
    assert content(folder) == {**GOOD, "link/passwd": b"mine"} and not (folder / "link").is_symlink()
    assert [(refusal.where, "a link or a device" in refusal.reason) for refusal in refused] == [("entry 3", True)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put(*FLAGS, 0x1), "encrypted"),
        (put(*FLAGS, 0x40 | 0x1), "encrypted"),
        (put(*METHOD, zipfile.ZIP_BZIP2), "method 12"),
        (put(*METHOD, 9), "method 9"),
        (put(*CRC, 12345), "damaged"),
        (put(*SIZE, 10), "damaged"),  # smaller than it is
        (put(*SIZE, 2**31), "damaged"),  # larger than it is
        (put(*PACKED, 10), "damaged"),
        (put(*PACKED, 2**31), "another file"),
        (put("<I", 42, 0), "another file"),  # its header is that of the first file
        (put("<I", 42, 2**31), "another file"),  # behind the end
        (lambda data, start: data.__setitem__(slice(start + 46, start + 50), b"evil"), "damaged"),  # called otherwise in its own header
    ],
)
def test_a_damaged_or_lying_entry_is_refused_and_the_rest_read(tmp_path, change, words):
    path = edit(pack(tmp_path / "x.zip", ("name", os.urandom(5000))), change)
    folder, refused = unpack(path)
    assert [refusal.files for refusal in refused] == [1] and words in refused[0].reason, refused
    assert refused[0].where == "entry 3" and content(folder) == GOOD


def test_bytes_that_are_wrong(tmp_path):
    path = pack(tmp_path / "x.zip", ("random", bytes(range(256)) * 8), method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(bytes(range(100, 120)), bytes(20), 1))
    folder, (refusal,) = unpack(path)
    assert content(folder) == GOOD and "checksum" in refusal.reason


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_cut_off(tmp_path, cache, share):
    path = pack(tmp_path / "x.zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"cannot be read .*; expected a whole archive"):
        unpack(path)
    assert not list(cache.iterdir())


def test_bombs(tmp_path):
    """A dense file is refused, however large its header says it is; archives in the archive stay files."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(2**20))
    path = pack(tmp_path / "x.zip", ("inner.zip", inner.getvalue()), ("mask", bytes(archive.RATIO_FREE_BYTES)), ("bomb", bytes(64 * 2**20)))
    folder, (refusal,) = unpack(path)
    assert content(folder) == {**GOOD, "inner.zip": inner.getvalue(), "mask": bytes(archive.RATIO_FREE_BYTES)}
    assert refusal.where == "entry 5" and "more than 200 times" in refusal.reason
    edit(path, put(*SIZE, 1000))
    assert "damaged" in unpack(path)[1][0].reason


def test_in_all_no_more_than_allowed_and_half_of_the_disk(tmp_path, cache, monkeypatch):
    path = pack(tmp_path / "x.zip", ("a1", os.urandom(40_000)), ("a2", os.urandom(40_000)))
    edit(path, put(*CRC, 5))
    monkeypatch.setattr(archive, "CHUNK", 1000)
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 42_000)
    with pytest.raises(DataError, match=r"unpacks to more than 0\.0 GiB"):
        unpack(pack(tmp_path / "y.zip", ("a1", os.urandom(40_000))))
    assert not list(cache.iterdir())
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 43_100)
    edit(path, put(*CRC, 5), which=2)
    folder, refused = unpack(path)  # what is refused and removed again takes no room
    assert content(folder) == GOOD and len(refused) == 2
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda path: SimpleNamespace(free=60_000))
    os.utime(path, (0, 0))
    with pytest.raises(DataError, match="unpack it yourself where there is room"):
        unpack(path)


def test_a_kernel_of_bytes_used_again_and_again(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("zeros", bytes(2**20))
        out.filelist *= 50
    folder, refused = unpack(path)
    assert content(folder) == {"zeros": bytes(2**20)}
    assert len(refused) == 49 and all("another file" in refusal.reason for refusal in refused)


def test_too_many_files_are_counted_before_a_list_is_made(tmp_path, cache, monkeypatch):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as out:
        for n in range(3000):
            out.writestr(str(n), b"")
    data = bytearray(path.read_bytes())
    struct.pack_into("<HH", data, len(data) - 14, 1, 1)  # it says that it holds one file
    path.write_bytes(data)
    made = []
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *args: made.append(args))
    for name, limit in {"MAX_MEMBERS": 2999, "MAX_DIRECTORY_BYTES": 3000 * 46}.items():
        with monkeypatch.context() as patch:
            patch.setattr(archive, name, limit)
            with pytest.raises(DataError, match=r"lists more than|MiB of names"):
                unpack(path)
    assert not made and not list(cache.iterdir())


def test_too_many_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 100)
    path = pack(tmp_path / "x.zip", *[(f"{n}/2/3/4/5", b"") for n in range(25)])
    with pytest.raises(DataError, match="100 folders"):
        unpack(path)


def test_bounded_memory(tmp_path):
    rng = np.random.default_rng(0)
    path = pack(tmp_path / "x.zip", ("large", np.repeat(rng.integers(0, 256, 4 * 2**20, dtype=np.uint8), 25).tobytes()))
    tracemalloc.start()
    folder, refused = unpack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not refused and (folder / "large").stat().st_size == 100 * 2**20
    assert peak < 16 * 2**20, peak


def test_names_that_meet(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = pack(
            tmp_path / "x.zip",
            ("A/1.dcm", b"ONE"),
            ("a/1.dcm", b"again"),
            ("a/1.dcm", b"and again"),
            ("a", b"file"),
            ("a/1.dcm/x", b"folder"),
        )
    folder, refused = unpack(path)
    kept = content(folder)
    assert {kept.pop("a/b/2.dcm"), *kept.values()} == {b"one", b"two" * 1000, b"ONE", b"again", b"and again"}
    assert {"a/1.dcm", "a/1-2.dcm", "a/1-3.dcm"} <= set(kept) and kept["a/1.dcm"] == b"one"
    assert [refusal.where for refusal in refused] == ["entry 6", "entry 7"] and "that of a folder" in refused[0].reason


def test_a_disk_that_knows_no_case(tmp_path, monkeypatch):
    """As on Windows and macOS, where ``IM1`` and ``im1`` are one file: all are kept, and quickly."""
    really, tried = os.open, []

    def fold(path, flags, mode):
        tried.append(path)
        return really(Path(path).parent / Path(path).name.lower(), flags, mode)

    monkeypatch.setattr(archive.os, "open", fold)
    names = ["".join(letters) for letters in itertools.product(*[(letter, letter.upper()) for letter in "slices"])]
    folder, refused = unpack(pack(tmp_path / "x.zip", *[(name, name.encode()) for name in names]))
    assert not refused and sorted(content(folder).values()) == sorted([*GOOD.values(), *map(str.encode, names)])
    assert len(tried) < 3 * len(names)


def test_a_long_unpacking_is_not_taken_for_forgotten(tmp_path, cache, monkeypatch):
    really, ages = archive._pieces, []

    def pieces(zipped, member):
        (scratch,) = cache.iterdir()
        ages.append(time.time() - scratch.stat().st_mtime)
        os.utime(scratch, (0, 0))
        return really(zipped, member)

    monkeypatch.setattr(archive, "_pieces", pieces)
    unpack(pack(tmp_path / "x.zip"))
    assert len(ages) == 2 and max(ages) < 60


def test_found_again(tmp_path, cache):
    path = edit(pack(tmp_path / "x.zip", ("name", b"x")), put(*CRC, 1))
    first = unpack(path)
    stamp = (first[0] / "a/1.dcm").stat().st_mtime_ns
    assert unpack(path) == first and len(first[1]) == 1
    assert (first[0] / "a/1.dcm").stat().st_mtime_ns == stamp and len(list(cache.iterdir())) == 1
    (first[0] / "a/1.dcm").unlink()  # a cache may be cleaned at any time
    assert unpack(path) == first and content(first[0]) == GOOD
    (first[0].parent / "archive.json").write_text('{"files": [')
    assert unpack(path) == first and len(list(cache.iterdir())) == 1
    pack(path, ("new", b"new"))
    assert "new" in content(unpack(path)[0]) and len(list(cache.iterdir())) == 2


def test_many_refusals_of_one_kind_are_counted(tmp_path):
    path = pack(tmp_path / "x.zip", *[(f"../{n}", b"") for n in range(150)])
    refused = unpack(path)[1]
    assert len(refused) == archive.LISTED + 1 and sum(refusal.files for refusal in refused) == 150
    assert refused[-1].where == "entries 103 to 152"


def test_no_name_in_any_message(tmp_path, caplog):
    caplog.set_level("DEBUG")
    path = edit(pack(tmp_path / "Mustermann.zip", ("../Mustermann", b""), ("Mustermann/Erika", b"x")), put(*CRC, 1))
    assert len(unpack(path)[1]) == 2 and "Mustermann" not in str(unpack(path)[1]) + caplog.text
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError) as error:
        unpack(path)
    assert "Mustermann" not in str(error.value)


@pytest.mark.parametrize("path", ["absent.zip", "null\0byte.zip"])
def test_what_is_not_there(path):
    with pytest.raises(DataError, match="could not be unpacked"):
        unpack(path)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="XDG_CACHE_HOME"):
        unpack(pack(tmp_path / "x.zip"))


def test_killed_in_the_middle(tmp_path, cache):
    """Nothing is there that could be taken for whole, and what is left over goes when it is old."""
    path = pack(tmp_path / "x.zip", *[(f"{n}.dcm", os.urandom(1000)) for n in range(50)])
    code = (
        "import os, signal, sys\n"
        "from monai_anomaly.data import archive\n"
        "really = archive._pieces\n"
        "def pieces(zip, member):\n"
        "    if member.filename == '30.dcm': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return really(zip, member)\n"
        "archive._pieces = pieces\n"
        "archive.unpack(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (leftover,) = cache.iterdir()
    assert leftover.name.startswith(".archive.writing-") and len(content(leftover)) == 33  # the last one has just been begun
    folder, _ = unpack(path)
    assert len(content(folder)) == 52 and leftover.exists()  # it could still be at it
    an_hour_ago = time.time() - 3601
    os.utime(leftover, (an_hour_ago, an_hour_ago))
    unpack(pack(tmp_path / "y.zip"))
    assert not leftover.exists() and len(list(cache.iterdir())) == 2


def test_what_an_earlier_version_unpacked_is_found_with_its_refusals(tmp_path):
    path = pack(tmp_path / "x.zip", ("../evil", b""))
    folder, refused = unpack(path)
    marker = json.loads((folder.parent / archive.MARKER).read_text())
    (folder.parent / archive.MARKER).write_text(json.dumps(marker | {"refused": [entry[:3] for entry in marker["refused"]]}))
    (folder / "a/1.dcm").write_bytes(b"one, found and not unpacked again")
    assert unpack(path) == (folder, refused) and b"found" in (folder / "a/1.dcm").read_bytes()


def test_interrupted(tmp_path, cache, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(archive, "publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        unpack(pack(tmp_path / "x.zip"))
    assert not list(cache.iterdir())


def test_whatever_is_broken_only_our_errors_come_out_and_nothing_lands_outside(tmp_path, cache):
    rng = np.random.default_rng(0)
    path = pack(tmp_path / "x.zip", ("a/3.dcm", rng.bytes(300)), ("link", b"x" * 50))
    whole = path.read_bytes()
    before, outcomes = set(tmp_path.rglob("*")), set()
    for n in range(500):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(1, len(data))] if n % 5 == 0 else data)
        os.utime(path, (n, n))
        try:
            outcomes.add(len(unpack(path)[1]))
        except DataError:
            outcomes.add("archive")
    assert {0, 1, "archive"} <= outcomes
    assert {new for new in set(tmp_path.rglob("*")) - before if not new.is_relative_to(cache.parent)} == {tmp_path / "cache"}
    assert not any(new.is_symlink() or new.name.startswith(".archive") for new in cache.rglob("*"))
