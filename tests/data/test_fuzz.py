"""1,200 broken files, the same ones every time: only an AnomalyError escapes, the counts add up, the batch goes on, and nothing takes long."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom.uid as sop
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from support.dicom import make_picture, make_series
from support.dicom_frames import make_enhanced, make_oct
from support.reading import adds_up, is_sentence, read, write_good

from monai_anomaly.data import find_cases
from monai_anomaly.data.cases import case_name
from monai_anomaly.errors import AnomalyError

FOLDERS, MUTANTS = 12, 100
SLOW_SECONDS = 3.0

PACKAGED = (  # in pydicom's own package; every way to store pixels
    "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_small_odd.dcm", "JPGExtended.dcm", "JPEG2000.dcm", "image_dfl.dcm", "rtdose_rle_1frame.dcm", "test-SR.dcm",
    "nested_priv_SQ.dcm", "no_meta_group_length.dcm",
)  # fmt: skip


def run_lengths(dataset: Dataset, _: int) -> None:
    dataset.compress(sop.RLELossless, generate_instance_uid=False)


@cache
def sound_files() -> dict[str, bytes]:
    """Small sound files of every kind; made in the working directory, since identifiers follow from the path a file is given."""
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 256, (24, 20), dtype=np.uint8), rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    volume = rng.normal(100, 20, (9, 8, 7))
    files = {name: Path(str(get_testdata_file(name, download=False))).read_bytes() for name in PACKAGED}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        made = {
            "slice": make_series(Path("s"), n=1) / "IM0000",
            "slice, RLE": make_series(Path("r"), n=1, change=run_lengths) / "IM0000",
            "enhanced": make_enhanced(Path("e")),
            "oct": make_oct(Path("o"), rng.integers(0, 256, (3, 10, 12), dtype=np.uint8)),
            "cine": make_picture(Path("c"), np.stack([colour] * 3), photometric="YBR_FULL", frame_time_ms=40, modality="US"),
            "palette": make_picture(Path("p"), grey, palette=rng.integers(0, 256, (256, 3))),
            "inverted": make_picture(Path("i"), grey.astype(np.uint16), photometric="MONOCHROME1", bits=12, modality="CR"),
        }
        files |= {name: path.read_bytes() for name, path in made.items()}
        os.chdir(here)
    for name, image in (
        ("nifti", nib.Nifti1Image(volume.astype("<i2"), np.diag([1, 2, 3, 1]))),
        ("nifti 2", nib.Nifti2Image(volume, np.eye(4))),
    ):
        files |= {name: image.to_bytes(), f"{name}, zipped": gzip.compress(image.to_bytes(), mtime=0)}
    pictures = {"PNG": colour, "JPEG": colour, "BMP": grey, "TIFF": grey.astype(np.uint16) * 200}
    for form, pixels in pictures.items():
        for options in ({}, {"compression": "tiff_lzw"}) if form == "TIFF" else ({},):
            with io.BytesIO() as file:
                Image.fromarray(pixels).save(file, form, **options)
                files[f"{form} {options}"] = file.getvalue()
    return files


def mutant(data: bytes, rng: np.random.Generator, other: bytes) -> tuple[str, bytes]:
    """One of seven ways to break a file; half of the time in its first kilobytes, where the header is."""
    size = len(data)
    reach = size if rng.random() < 0.5 else min(size, 2048)
    place = int(rng.integers(0, reach))
    length = int(min(rng.integers(1, 200), size - place))
    kind = int(rng.integers(0, 7))
    if kind == 0:
        spoiled = bytearray(data)
        for _ in range(int(rng.integers(1, 30))):
            spoiled[int(rng.integers(0, reach))] ^= 1 << int(rng.integers(0, 8))
        return "bits flipped", bytes(spoiled)
    if kind == 1:
        return "cut off", data[:place]
    if kind == 2:
        start = int(rng.integers(0, len(other)))
        return "spliced", data[:place] + other[start : start + 2000] + data[place + length :]
    if kind == 3:  # a length: four bytes behind a value representation or a tag, else anywhere
        marks = [data.find(mark, place) for mark in (b"SQ\0\0", b"OW\0\0", b"OB\0\0", b"UN\0\0", b"\xfe\xff\0\xe0")]
        hits = [found + 4 for found in marks if found >= 0] or [place]
        there = hits[int(rng.integers(0, len(hits)))]
        return "length of 0xFFFFFFFF", data[:there] + b"\xff" * 4 + data[there + 4 :]
    if kind == 4:
        return "a piece gone", data[:place] + data[place + length :]
    if kind == 5:
        return "a piece twice", data[: place + length] + data[place:]
    return "noise", data[:place] + rng.bytes(length) + data[place + length :]


def mutants(folder: int) -> Iterator[tuple[str, bytes]]:
    """The broken files of a folder, with what was done."""
    files = list(sound_files().items())
    rng = np.random.default_rng([2024, folder])
    for number in range(MUTANTS):
        name, data = files[(folder * MUTANTS + number) % len(files)]
        if name.endswith("zipped") and rng.random() < 0.7:  # else the checksum of the archive finds everything
            what, spoiled = mutant(gzip.decompress(data), rng, files[int(rng.integers(0, len(files)))][1])
            yield f"{name}, {what} inside", gzip.compress(spoiled, mtime=0)
        else:
            what, spoiled = mutant(data, rng, files[int(rng.integers(0, len(files)))][1])
            yield f"{name}, {what}", spoiled


@pytest.fixture(scope="module", autouse=True)
def decoders():
    """ITK takes seconds to import, once; what is measured below is the files."""
    read(str(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False)))


@pytest.mark.parametrize("number", range(FOLDERS))
@pytest.mark.filterwarnings("ignore")  # pydicom, nibabel and Pillow warn about every other file
def test_broken_files(tmp_path, number):
    write_good(tmp_path)
    done = {}
    for k, (what, data) in enumerate(mutants(number)):
        done[f"{k:03}"] = what
        (tmp_path / f"{k:03}").write_bytes(data)
    start = time.perf_counter()
    found = find_cases(tmp_path)
    slow = {"all": ("finding", time.perf_counter() - start)} if time.perf_counter() - start > SLOW_SECONDS else {}
    assert adds_up(found) and found.found == MUTANTS + 1
    assert all(is_sentence(refusal.reason) for refusal in found.refused), [r.reason for r in found.refused if not is_sentence(r.reason)]
    for case in found.cases:
        names = [Path(name).name for name in ([case["image"]] if isinstance(case["image"], str) else case["image"])]
        what = "; ".join(done.get(name, name) for name in names)
        start = time.perf_counter()
        try:
            array, meta = read(case["image"])
            assert np.isfinite(array).all() and tuple(meta["spatial_shape"]) == array.shape[:3], (what, case_name(case))
            assert np.isfinite(meta["affine"]).all() and abs(np.linalg.det(meta["affine"])) > 0, (what, case_name(case))
        except AnomalyError as error:
            assert is_sentence(str(error)), (what, str(error))
        except Exception as error:
            pytest.fail(f"{type(error).__name__} escaped from {names} ({what}): {error}")
        if time.perf_counter() - start > SLOW_SECONDS:
            slow[names[0]] = (what, round(time.perf_counter() - start, 1))
    assert not slow, slow


def test_the_files_are_sound_before_they_are_broken(tmp_path):
    """Else the refusals above would say little."""
    for k, data in enumerate(sound_files().values()):
        (tmp_path / f"{k:02}").write_bytes(data)
    found = find_cases(tmp_path)
    for case in found.cases:
        read(case["image"])
    refused = {list(sound_files())[int(refusal.where)] for refusal in found.refused if refusal.where.isdecimal()}
    assert adds_up(found) and refused <= {"rtdose_rle_1frame.dcm", "test-SR.dcm", "nested_priv_SQ.dcm", "no_meta_group_length.dcm"}, (
        found.refused
    )


def test_the_files_are_the_same_every_time():
    def checksums() -> list[int]:
        sound_files.cache_clear()
        return [zlib.crc32(data) for folder in range(2) for _, data in mutants(folder)]

    assert checksums() == checksums()
