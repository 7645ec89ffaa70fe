"""Small files that want gigabytes: refused, or read past, within bounded memory and time. Measured in a process of its own."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom.uid as sop
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from support.broken import chunk
from support.dicom import make_picture, make_series
from support.dicom_frames import make_enhanced
from support.reading import is_sentence, write_good

MAX_MB, MAX_SECONDS = 700, 20
MEBIBYTE = 2**20


def deflated(parts: Iterator[bytes]) -> bytes:
    """Deflate parts one by one; equal parts give equal bytes, which makes a bomb in no time."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    known: dict[bytes, bytes] = {}
    out = []
    for part in parts:
        if part not in known or not out:
            done = squeezer.compress(part) + squeezer.flush(zlib.Z_FULL_FLUSH)  # nothing refers back over a full flush
            if out:
                known[part] = done
            out.append(done)
        else:
            out.append(known[part])
    return b"".join(out) + squeezer.flush(zlib.Z_FINISH)


def zeros(n_bytes: int) -> Iterator[bytes]:
    block = bytes(MEBIBYTE)
    yield from (block for _ in range(n_bytes // MEBIBYTE))
    yield bytes(n_bytes % MEBIBYTE)


def split(path: Path) -> tuple[bytes, bytes, bytes]:
    """File meta information, data set, pixels of a one-slice series written there."""
    make_series(path.parent, n=1, name=path.name)
    content = path.read_bytes()
    length = struct.unpack("<I", content[140:144])[0]
    pixels = content.rindex(b"\xe0\x7f\x10\0OW")
    return content[: 144 + length], content[144 + length : pixels], content[pixels:]


def as_deflated(meta: bytes) -> bytes:
    """The same meta information with the deflated transfer syntax, which is as long when padded."""
    old, new = sop.ExplicitVRLittleEndian.encode() + b"\0", sop.DeflatedExplicitVRLittleEndian.encode()
    place = meta.index(b"\x02\0\x10\0UI")
    element = meta[place : place + 8 + len(old)]
    longer = b"\x02\0\x10\0UI" + struct.pack("<H", len(new)) + new
    meta = meta.replace(element, longer)
    return meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:]


def deflated_pixels(path: Path) -> None:
    meta, dataset, _ = split(path)
    size = 800 * MEBIBYTE
    head = b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", size)
    path.write_bytes(as_deflated(meta) + deflated(part for part in (dataset, head, *zeros(size))))


def deflated_header(path: Path) -> None:
    meta, dataset, pixels = split(path)
    size = 800 * MEBIBYTE
    head = b"\x09\0\x10\0LO\x06\0MADEUP\x09\0\x01\x10OB\0\0" + struct.pack("<I", size)
    path.write_bytes(as_deflated(meta) + deflated(part for part in (dataset, head, *zeros(size), pixels)))


def items(n: int) -> bytes:
    """A private sequence of empty items, 8 bytes each; a reader makes an object of a kilobyte from each."""
    return b"\x09\0\x10\0LO\x06\0MADEUP\x09\0\x01\x10SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0\0\0\0\0" * n + b"\xfe\xff\xdd\xe0\0\0\0\0"


def deflated_items(path: Path) -> None:
    meta, dataset, pixels = split(path)
    early = dataset.index(b"\x10\0\x10\0PN")  # group 0009 stands before the patient
    path.write_bytes(as_deflated(meta) + deflated(iter([dataset[:early], items(4_000_000), dataset[early:], pixels])))


def plain_items(path: Path) -> None:
    meta, dataset, pixels = split(path)
    early = dataset.index(b"\x10\0\x10\0PN")
    path.write_bytes(meta + dataset[:early] + items(2_000_000) + dataset[early:] + pixels)


def many_elements(path: Path) -> None:
    """Four million empty elements, each of another tag."""
    meta, dataset, pixels = split(path)
    tags = np.zeros(4_000_000, [("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")])
    number = np.arange(len(tags))
    tags["group"], tags["element"], tags["vr"] = 0x0011 + 2 * (number // 60_000), 0x1000 + number % 60_000, b"LO"
    path.write_bytes(meta + dataset + tags.tobytes() + pixels)


def frames_without_end(path: Path) -> None:
    """An enhanced file whose per-frame sequence repeats one empty item a million times."""
    make_enhanced(path)
    dataset = dcmread(path)
    dataset.NumberOfFrames = 2**20
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(path)
    content = path.read_bytes()
    pixels = content.rindex(b"\xe0\x7f\x10\0OW")
    sequence = b"\x00\x52\x30\x92SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0\0\0\0\0" * 2**21 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(content[:pixels] + sequence + content[pixels:])


def gzip_bomb(header: bytes, size: int) -> bytes:
    """With a right checksum where that does not take seconds."""
    checksum = 0
    for part in (header, *zeros(size)) if size < 2**30 else ():
        checksum = zlib.crc32(part, checksum)
    body = deflated(part for part in (header, *zeros(size)))
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + struct.pack("<2I", checksum, (len(header) + size) % 2**32)


def volume(shape: tuple[int, ...], size: int, kind: type = np.int16) -> Callable[[Path], Any]:
    header = nib.Nifti1Image(np.zeros((1, 1, 1), kind), np.eye(4)).to_bytes()[:352]
    header = header[:40] + struct.pack("<8h", 3, *shape, 1, 1, 1, 1) + header[56:]
    return lambda path: path.with_suffix(".nii.gz").write_bytes(gzip_bomb(header, size))


def run_lengths(path: Path) -> None:
    """A picture of 16,000 x 16,000 zeros whose size the header tells truly: 128 of them in two bytes."""

    def change(dataset: Dataset, _: int) -> None:
        dataset.file_meta.TransferSyntaxUID = sop.RLELossless
        dataset.Rows = dataset.Columns = 16_000
        dataset.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (16_000 * 16_000 // 128)])
        dataset["PixelData"].is_undefined_length = True

    make_picture(path, np.zeros((4, 4), np.uint8), change=change)


def long_fragment(path: Path) -> None:
    """JPEG lossless whose last fragment claims three gigabytes."""
    content = Path(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False))).read_bytes()
    place = content.rindex(b"\xfe\xff\0\xe0") + 4
    path.write_bytes(content[:place] + struct.pack("<I", 3 * 2**30) + content[place + 4 :])


def png(width: int, height: int) -> bytes:
    """A whole one-bit PNG of one colour."""
    row = bytes(1 + (width + 7) // 8)
    size = len(row) * height
    data = b"\x78\x9c" + deflated(zeros(size)) + struct.pack(">I", (size % 65521) << 16 | 1)  # Adler-32 of zeros
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def compressed_text(path: Path) -> None:
    """A small PNG with half a gigabyte of compressed text."""
    small = png(8, 8)
    text = b"Comment\0\0\x78\x9c" + deflated(zeros(512 * MEBIBYTE)) + struct.pack(">I", (512 * MEBIBYTE % 65521) << 16 | 1)
    place = small.index(b"IDAT") - 4
    path.write_bytes(small[:place] + chunk(b"zTXt", text) + small[place:])


BOMBS: dict[str, Callable[[Path], Any]] = {
    "deflated pixels.dcm": deflated_pixels,
    "deflated header.dcm": deflated_header,
    "deflated items.dcm": deflated_items,
    "plain items.dcm": plain_items,
    "many elements.dcm": many_elements,
    "frames without end.dcm": frames_without_end,
    "gzip, small claim": volume((5, 6, 7), 2**31),
    "gzip, large claim": volume((1000, 1000, 1000), 2**31),
    "gzip, claim of 4 GB": volume((1200, 1200, 1500), 2**32),
    "gzip, claim of 250 MB, true": volume((500, 500, 1000), 250 * 10**6, np.uint8),
    "run lengths.dcm": run_lengths,
    "long fragment.dcm": long_fragment,
    "png.png": lambda path: path.write_bytes(png(50_000, 50_000)),
    "png text.png": compressed_text,
}
READ = {"gzip, small claim", "png text.png", "long fragment.dcm", "gzip, claim of 250 MB, true"}
"""What may also be read: only as much as it claims."""
AS_LARGE_AS_IT_SAYS = {"gzip, claim of 250 MB, true": 1500}
"""An honest volume of 250 million voxels, that happens to compress well: as float32 it has 954 MB."""
SQUEEZED = {"deflated": (-15, None), "gzip": (31, None), "png": (15, b"\x78\x9c")}
"""How what a bomb holds is packed, by the first letters of its name: zlib's ``wbits``, and where it begins unless a header says it."""

SCRIPT = """
    import json, os, resource, sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from support.reading import verdicts

    verdicts(Path(sys.argv[2]))  # everything that has to be imported is
    for folder in map(Path, sys.argv[2:]):
        start = time.perf_counter()
        child = os.fork()
        if child == 0:
            room = 4 * 2**30 + 4096 * int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (room, room))  # a bomb that goes off must not take the machine with it
            arrays, reasons = verdicts(folder)
            (folder / "result.json").write_text(json.dumps([len(arrays), reasons]))
            os._exit(0)
        usage = os.wait4(child, 0)[2]
        found = json.loads((folder / "result.json").read_text()) if (folder / "result.json").is_file() else [0, ["ended without a result"]]
        print(json.dumps([*found, time.perf_counter() - start, usage.ru_maxrss / 1024]))
"""


def measure(good: Path, folders: list[Path]) -> list[list[Any]]:
    """Number of arrays, reasons, seconds and the peak in MB above that of the good folder, for each folder, each in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SCRIPT), str(Path(__file__).parents[1]), str(good), *map(str, folders)]
    done = subprocess.run(command, cwd=good, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert done.returncode == 0 and len(lines) == len(folders) + 1, done.stderr[-2000:]
    return [[arrays, reasons, seconds, peak - lines[0][3]] for arrays, reasons, seconds, peak in lines[1:]]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures with fork and wait4 as Linux has them")
def test_bombs_do_not_go_off(tmp_path):
    folders = []
    for name, make in BOMBS.items():
        folder = write_good(tmp_path / name.replace(" ", "_"))
        make(folder / name)
        assert sum(path.stat().st_size for path in folder.iterdir()) < 40 * MEBIBYTE
        folders.append(folder)
    good = write_good(tmp_path / "good")
    make_series(good / "ct", n=2)
    make_enhanced(good / "enhanced")
    nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4)).to_filename(good / "a.nii.gz")
    shutil.copy(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False)), good)  # makes ITK load
    bad = []
    for (arrays, reasons, seconds, megabytes), name in zip(measure(good, folders), BOMBS, strict=True):
        refused = arrays == 0 and len(reasons) == 1 and is_sentence(reasons[0])
        if not (refused or (name in READ and arrays == 1)) or seconds > MAX_SECONDS or megabytes > AS_LARGE_AS_IT_SAYS.get(name, MAX_MB):
            bad.append(f"{name}: {arrays} read, {reasons}, {seconds:.1f} s, peak {megabytes:.0f} MB")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", [name for name in BOMBS if name.startswith(tuple(SQUEEZED))])
def test_the_bombs_are_live(tmp_path, name):
    """Else they would prove nothing: what a decoder without bounds would get. The others are what they are, unpacked."""
    BOMBS[name](tmp_path / name)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    window, mark = next(how for kind, how in SQUEEZED.items() if name.startswith(kind))
    start = content.index(mark) if mark else 144 + struct.unpack("<I", content[140:144])[0] if window < 0 else 0
    inflater, total = zlib.decompressobj(window), 0
    rest = content[start:]
    while rest and not inflater.eof and total < 400 * MEBIBYTE:
        total += len(inflater.decompress(rest, MEBIBYTE))
        rest = inflater.unconsumed_tail
    assert total > 20 * len(content) and total >= 30 * MEBIBYTE
    if name.startswith("gzip"):
        assert nib.Nifti1Image.from_filename(path).shape[2] in (7, 1000, 1500)  # read by others
