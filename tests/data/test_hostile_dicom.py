"""Bad DICOM files: each is refused in a sentence, nothing but an AnomalyError escapes, and the good file beside it is read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.uid as sop
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from support.broken import GREY, encoded, put, with_size
from support.dicom import make_picture, make_series
from support.reading import is_sentence, verdicts, write_good

Make = Callable[[Path], Any]


def ct(change: Callable[[Dataset], Any]) -> Make:
    """One CT slice after ``change``."""
    return lambda path: make_series(path.parent, n=1, name=path.name, change=lambda dataset, k: change(dataset) and None)


def element(keyword: str, vr: str, value: bytes) -> Make:
    """One CT slice with an element of another value representation, or of impossible content."""

    def make(path: Path) -> None:
        make_series(path.parent, n=1, name=path.name)
        path.write_bytes(put(path.read_bytes(), keyword, vr, value))

    return make


def values(**given: Any) -> Make:
    """One CT slice with other values."""

    def change(dataset: Dataset) -> None:
        for keyword, value in given.items():
            setattr(dataset, keyword, value)

    return ct(change)


def without(keyword: str) -> Make:
    """One CT slice without an element."""
    return ct(lambda dataset: delattr(dataset, keyword))


def stream(syntax: str, frame: bytes, **given: Any) -> Make:
    """A picture whose one encapsulated frame is ``frame``; the header says 16 x 16."""

    def make(path: Path) -> None:
        def change(dataset: Dataset, _: int) -> None:
            dataset.file_meta.TransferSyntaxUID = sop.UID(syntax)
            if dataset.file_meta.TransferSyntaxUID.is_private:
                dataset.file_meta.TransferSyntaxUID.set_private_encoding(False, True)
            dataset.PixelData = encapsulate([frame]) if frame else b"\xfe\xff\0\xe0\0\0\0\0"  # an empty table of offsets
            dataset["PixelData"].is_undefined_length = True

        make_picture(path, GREY, change=change, **given)

    return make


def jpeg_ls() -> bytes:
    picture = Dataset()
    picture.Rows = picture.Columns = 16
    encoder = get_encoder(sop.JPEGLSLossless)
    options = {"rows": 16, "columns": 16, "samples_per_pixel": 1, "bits_allocated": 8, "bits_stored": 8, "pixel_representation": 0,
               "photometric_interpretation": "MONOCHROME2", "number_of_frames": 1}  # fmt: skip
    return encoder.encode(GREY.tobytes(), **options)


HUGE = struct.pack(">2H", 60_000, 60_000)
J2K = with_size(encoded("JPEG2000", no_jp2=True), b"\xff\x51", 6, struct.pack(">2I", 60_000, 60_000))
JP2_FOOLED = (  # the size that is checked first stands in a box that no decoder looks at
    encoded("JPEG2000")[:12] + struct.pack(">I", 8 + 40) + b"xml " + encoded("JPEG2000", no_jp2=True)[:40] + with_size(
        encoded("JPEG2000"), b"\xff\x51", 6, struct.pack(">2I", 60_000, 60_000)
    )[12:]
)  # fmt: skip

DICOM = {
    "truncated in the header": lambda path: path.write_bytes((make_series(path.parent / "x", n=1) / "IM0000").rename(path).read_bytes()[:400]),
    "truncated in the pixels": lambda path: path.write_bytes((make_series(path.parent / "x", n=1) / "IM0000").rename(path).read_bytes()[:-60]),
    "preamble only": lambda path: path.write_bytes(bytes(128) + b"DICM"),
    "preamble and noise": lambda path: path.write_bytes(bytes(128) + b"DICM" + np.random.default_rng(1).bytes(900)),
    "60000 rows and columns": values(Rows=60_000, Columns=60_000),
    "a million frames": values(NumberOfFrames=10**6),
    "a million frames of a cine": lambda path: make_picture(path, np.stack([GREY] * 2), frame_time_ms=40, NumberOfFrames=10**6),
    "a million encapsulated frames": stream(sop.JPEGBaseline8Bit, encoded("JPEG"), NumberOfFrames=10**6),
    "no frames": values(NumberOfFrames=0),
    "rows below 0": element("Rows", "SS", b"\xfb\xff"),
    "rows as a text": element("Rows", "LO", b"twelve"),
    "rows 0": values(Rows=0),
    "no rows": without("Rows"),
    "no pixels": without("PixelData"),
    "empty pixels": values(PixelData=b""),
    "bits 7": values(BitsAllocated=7),
    "bits 64": values(BitsAllocated=64),
    "bits stored beyond those allocated": values(BitsStored=40),
    "samples 0": values(SamplesPerPixel=0),
    "samples 4": values(SamplesPerPixel=4),
    "three samples, one given": values(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0),
    "unknown colour space": values(PhotometricInterpretation="HSV"),
    "spacing nan": element("PixelSpacing", "DS", rb"1\nan "),
    "spacing 0": values(PixelSpacing=[0, 1]),
    "spacing below 0": values(PixelSpacing=[-0.5, 0.5]),
    "spacing of one number": values(PixelSpacing=[0.5]),
    "spacing as a sequence": element("PixelSpacing", "SQ", b"\xfe\xff\0\xe0\0\0\0\0"),
    "slope 0": values(RescaleSlope=0),
    "slope inf": element("RescaleSlope", "DS", b"inf "),
    "slope of 1e300": values(RescaleSlope="1e300"),
    "slope as a text": element("RescaleSlope", "LO", b"steep "),
    "position of two numbers": values(ImagePositionPatient=[1, 2]),
    "position nan": element("ImagePositionPatient", "DS", rb"1\2\nan "),
    "position of 1e300 mm": values(ImagePositionPatient=["1e300", "0", "0"]),
    "directions not perpendicular": values(ImageOrientationPatient=[1, 0, 0, 0.5, 0.866, 0]),
    "directions of length 0": values(ImageOrientationPatient=[0] * 6),
    "directions of five numbers": values(ImageOrientationPatient=[1, 0, 0, 0, 1]),
    "frames as a text": element("NumberOfFrames", "IS", b"1A"),
    "JPEG 2000 stream of 60000 x 60000": stream(sop.JPEG2000Lossless, J2K),
    "JPEG 2000 stream of 60000 x 60000 behind a box": stream(sop.JPEG2000Lossless, JP2_FOOLED),
    "JPEG stream of 60000 x 60000": stream(sop.JPEGBaseline8Bit, with_size(encoded("JPEG"), b"\xff\xc0", 5, HUGE)),
    "JPEG stream of 60000 x 60000 as lossless": stream(sop.JPEGLosslessSV1, with_size(encoded("JPEG"), b"\xff\xc0", 5, HUGE)),
    "JPEG-LS stream of 60000 x 60000": stream(sop.JPEGLSLossless, with_size(jpeg_ls(), b"\xff\xf7", 5, HUGE)),
    "JPEG 2000 stream, JPEG in the header": stream(sop.JPEGBaseline8Bit, J2K),
    "stream of noise": stream(sop.JPEG2000Lossless, np.random.default_rng(2).bytes(300)),
    "empty stream": stream(sop.JPEG2000Lossless, b""),
    "RLE of noise": stream(sop.RLELossless, np.random.default_rng(3).bytes(300)),
    "RLE with segments far outside": stream(sop.RLELossless, struct.pack("<16I", 1, 2**31, *[0] * 14) + bytes(20)),
    "unknown transfer syntax": stream("1.2.3.4.5", b"1234"),
    "video": stream(sop.MPEG4HP41, b"1234"),
    "palette missing": lambda path: make_picture(path, GREY, photometric="PALETTE COLOR"),
    "palette too short": lambda path: make_picture(
        path, GREY, palette=np.zeros((256, 3), int), RedPaletteColorLookupTableData=b"\0\0", BluePaletteColorLookupTableData=b""
    ),
    "lookup table of 65535 entries and 2 bytes": lambda path: make_picture(path, GREY, ModalityLUTSequence=[lookup()]),
    "a localizer": values(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "a segmentation": values(Modality="SEG"),
}  # fmt: skip


def lookup() -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [65535, 0, 16])
    table.add_new("LUTData", "OW", b"\0\0")
    table.ModalityLUTType = "US"
    return table


@pytest.mark.parametrize("name", DICOM)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about what the test asks for
def test_a_bad_dicom_file_is_refused_in_a_sentence(tmp_path, name):
    DICOM[name](write_good(tmp_path) / "bad file.dcm")
    arrays, reasons = verdicts(tmp_path)
    assert not arrays and len(reasons) == 1 and is_sentence(reasons[0]), (list(arrays), reasons)


ELEMENTS = (
    "ImageType", "SOPClassUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SamplesPerPixel",
    "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept",
    "InstanceNumber", "EchoTime", "DiffusionBValue", "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "SpecificCharacterSet", "NumberOfPatientRelatedSeries",
)  # fmt: skip


OF_COLOUR = ("SamplesPerPixel", "PlanarConfiguration", "PixelRepresentation", "RedPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData",
             "NumberOfFrames", "BitsStored", "FrameTime")  # fmt: skip


@pytest.mark.parametrize("vr", ["WS", "SQ", "OB", "FD", "AT", "US", "IS", "PN", "UN"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_element_may_hold_anything(tmp_path, vr):
    """Whatever the representation and the bytes: a slice or a picture with a palette is read or refused, and nothing else happens."""
    make_series(tmp_path / "slice", n=1)
    make_picture(tmp_path / "palette", GREY, palette=np.zeros((256, 3), int))
    bases = [((tmp_path / "slice/IM0000").read_bytes(), ELEMENTS), ((tmp_path / "palette").read_bytes(), OF_COLOUR)]
    escaped = []
    for content in (b"", b"\1\2", b"\xff\xff\xff\xff\xff\xff\xff\xff", rb"1\2\3\x00\xe9 ", b"1e999 "):
        for base, keywords in bases:
            for keyword in keywords:
                folder = write_good(tmp_path / f"{keyword} {len(content)} {len(base)}")
                (folder / "bad.dcm").write_bytes(put(base, keyword, vr, content))
                try:
                    arrays, reasons = verdicts(folder)
                    assert len(arrays) + len(reasons) == 1 and all(map(is_sentence, reasons)), reasons
                except Exception as error:
                    escaped.append((keyword, content, type(error).__name__, str(error)[:100]))
    assert not escaped, "\n".join(map(str, escaped))


def nest(depth: int, undefined: bool) -> bytes:
    """``depth`` sequences in each other, as bytes of explicit VR little endian."""
    if undefined:
        return (b"\x40\0\x55\xa7SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4) * depth + (
            b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
        ) * depth
    inner = b""
    for _ in range(depth):
        inner = b"\x40\0\x55\xa7SQ\0\0" + struct.pack("<I", len(inner) + 8) + b"\xfe\xff\0\xe0" + struct.pack("<I", len(inner)) + inner
    return inner


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("depth", [200, 20_000])
def test_nested_sequences(tmp_path, depth, undefined):
    make_series(write_good(tmp_path), n=1, name="nested")
    raw = (tmp_path / "nested").read_bytes()
    pixels = raw.rindex(b"\xe0\x7f\x10\0OW")
    (tmp_path / "nested").write_bytes(raw[:pixels] + nest(depth, undefined) + raw[pixels:])
    arrays, reasons = verdicts(tmp_path)
    assert len(arrays) + len(reasons) == 1 and all(map(is_sentence, reasons)), reasons  # read past, or refused
