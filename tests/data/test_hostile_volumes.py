"""Bad volumes and pictures: each is refused in a sentence, nothing but an AnomalyError escapes, and the good file beside it is read."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from support.broken import GREY, PNG, chunk, encoded, with_size
from support.reading import is_sentence, verdicts, write_good

Make = Callable[[Path], Any]


def nifti(data: np.ndarray) -> Make:
    def make(path: Path) -> None:
        nib.Nifti1Image(data, np.diag([1.0, 2, 3, 1])).to_filename(path.with_suffix(".nii"))

    return make


def header_bytes(*changes: tuple[int, bytes], zipped: bool = False) -> Make:
    """A NIfTI volume with some bytes of its header replaced: at an offset, by bytes."""

    def make(path: Path) -> None:
        image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32), np.eye(4)).to_bytes()
        for offset, replacement in changes:
            image = image[:offset] + replacement + image[offset + len(replacement) :]
        path.with_suffix(".nii.gz" if zipped else ".nii").write_bytes(gzip.compress(image) if zipped else image)

    return make


def spoil(value: float) -> np.ndarray:
    volume = np.ones((5, 6, 7), np.float32)
    volume[2, 3, 4] = value
    return volume


NO_AFFINE = (252, bytes(4))
"""Neither sform nor qform: the spacing counts."""

NIFTI = {
    "nan voxel": nifti(spoil(np.nan)),
    "inf voxel": nifti(spoil(-np.inf)),
    "voxel beyond float32": nifti(spoil(1).astype(np.float64) * 1e300),
    "nan affine": header_bytes((280, struct.pack("<f", np.nan))),
    "inf affine": header_bytes((284, struct.pack("<f", np.inf))),
    "affine without volume": header_bytes((296, bytes(16))),
    "spacing 0": header_bytes((84, struct.pack("<f", 0)), NO_AFFINE),
    "spacing below 0": header_bytes((88, struct.pack("<f", -3)), NO_AFFINE),
    "spacing nan": header_bytes((80, struct.pack("<f", np.nan)), NO_AFFINE),
    "two axes": nifti(np.zeros((5, 6), np.float32)),
    "four axes": nifti(np.zeros((5, 6, 7, 2), np.float32)),
    "complex": nifti(np.zeros((5, 6, 7), np.complex64)),
    "RGB": nifti(np.zeros((5, 6, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")])),
    "axis of length 0": header_bytes((42, struct.pack("<h", 0))),
    "axis below 0": header_bytes((42, struct.pack("<h", -5))),
    "9 axes": header_bytes((40, struct.pack("<h", 9))),
    "32767 voxels along each axis": header_bytes((42, struct.pack("<3h", *[32767] * 3))),
    "32767 voxels along each axis, zipped": header_bytes((42, struct.pack("<3h", *[32767] * 3)), zipped=True),
    "unknown type": header_bytes((70, struct.pack("<h", 99))),
    "voxels at byte 1e30": header_bytes((108, struct.pack("<f", 1e30))),
    "voxels at byte nan": header_bytes((108, struct.pack("<f", np.nan))),
    "voxels in the header": header_bytes((108, struct.pack("<f", 0))),
    "slope nan, intercept inf": header_bytes((112, struct.pack("<2f", 1, np.inf))),
    "extension of 2 GB": header_bytes((348, b"\1\0\0\0" + struct.pack("<2i", 2**31 - 16, 6))),
    "header only": lambda path: path.with_suffix(".nii").write_bytes(nib.Nifti1Image(np.zeros((5, 6, 7)), np.eye(4)).to_bytes()[:352]),
    "truncated": lambda path: path.with_suffix(".nii").write_bytes(nib.Nifti1Image(np.zeros((5, 6, 7)), np.eye(4)).to_bytes()[:-9]),
    "truncated gzip": lambda path: path.with_suffix(".nii.gz").write_bytes(
        gzip.compress(nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 9, 9)), np.eye(4)).to_bytes())[:-900]
    ),
    "gzip of a text": lambda path: path.with_suffix(".nii.gz").write_bytes(gzip.compress(b"hello " * 100)),
    "gzip of nothing": lambda path: path.with_suffix(".nii.gz").write_bytes(gzip.compress(b"")),
    "gzip of a gzip": lambda path: path.with_suffix(".nii.gz").write_bytes(
        gzip.compress(gzip.compress(nib.Nifti1Image(np.zeros((5, 6, 7)), np.eye(4)).to_bytes()))
    ),
    "gzip with a wrong checksum": lambda path: path.with_suffix(".nii.gz").write_bytes(
        gzip.compress(nib.Nifti1Image(np.zeros((5, 6, 7)), np.eye(4)).to_bytes())[:-8] + bytes(8)
    ),
    "half of a pair": lambda path: path.with_suffix(".nii").write_bytes(
        nib.Nifti1Image(np.zeros((5, 6, 7)), np.eye(4)).to_bytes()[:344] + b"ni1\0" + bytes(4)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NIFTI)
def test_a_bad_volume_is_refused_in_a_sentence(tmp_path, name):
    with np.errstate(all="ignore"):
        NIFTI[name](write_good(tmp_path) / "bad")
    arrays, reasons = verdicts(tmp_path)
    assert not arrays and len(reasons) == 1 and is_sentence(reasons[0]), (list(arrays), reasons)


PICTURES = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_bytes(b"this is no picture\n" * 20),
    "PNG of 60000 x 60000": lambda path: path.write_bytes(PNG + chunk(b"IHDR", struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0)) + chunk(b"IEND", b"")),
    "PNG of 2**31 x 2**31": lambda path: path.write_bytes(PNG + chunk(b"IHDR", struct.pack(">2I5B", 2**31 - 1, 2**31 - 1, 8, 6, 0, 0, 0))),
    "PNG cut off": lambda path: path.write_bytes(encoded("PNG")[:120]),
    "PNG with a wrong checksum": lambda path: path.write_bytes(with_size(encoded("PNG"), b"IDAT", 30, b"\0\1\2\3")),
    "JPEG of 65500 x 65500": lambda path: path.write_bytes(with_size(encoded("JPEG"), b"\xff\xc0", 5, struct.pack(">2H", 65500, 65500))),
    "JPEG cut off": lambda path: path.write_bytes(encoded("JPEG")[:200]),
    "BMP of 100000 x 100000": lambda path: path.write_bytes(with_size(encoded("BMP"), b"BM", 18, struct.pack("<2i", 100_000, 100_000))),
    "TIFF cut off": lambda path: path.write_bytes(encoded("TIFF")[:40]),
    "TIFF whose directories go in a circle": lambda path: path.write_bytes(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
    "TIFF of two pages": lambda path: path.write_bytes(encoded("TIFF", save_all=True, append_images=[Image.fromarray(GREY)])),
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURES)
def test_a_bad_picture_is_refused_in_a_sentence(tmp_path, name):
    PICTURES[name](write_good(tmp_path) / "bad.png")
    arrays, reasons = verdicts(tmp_path)
    assert not arrays and len(reasons) == 1 and is_sentence(reasons[0]), (list(arrays), reasons)
