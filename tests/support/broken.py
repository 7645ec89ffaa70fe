"""Ways to break a file, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom.tag import Tag

GREY = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
PNG = b"\x89PNG\r\n\x1a\n"
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}


def put(content: bytes, keyword: str, vr: str, value: bytes) -> bytes:
    """A file of explicit VR little endian with an element set to bytes that pydicom would not write."""
    tag = struct.pack("<2H", Tag(keyword).group, Tag(keyword).element)
    place = stop = 144 + struct.unpack("<I", content[140:144])[0]
    while place < len(content):
        here, long = struct.unpack("<2H", content[place : place + 4]), content[place + 4 : place + 6] in LONG
        stop = place + (12 if long else 8) + struct.unpack("<I" if long else "<H", content[place + 6 + 2 * long : place + 8 + 4 * long])[0]
        if here >= (Tag(keyword).group, Tag(keyword).element):
            break
        place = stop
    stop = stop if content[place : place + 4] == tag else place
    length = struct.pack("<HI", 0, len(value)) if vr.encode() in LONG else struct.pack("<H", len(value))
    return content[:place] + tag + vr.encode() + length + value + content[stop:]


def encoded(form: str, **options: Any) -> bytes:
    """A small picture as PNG, JPEG, ... bytes."""
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, form, **options)
    return file.getvalue()


def with_size(codestream: bytes, marker: bytes, offset: int, size: bytes) -> bytes:
    """The same stream saying another size: ``size`` stands ``offset`` bytes behind ``marker``."""
    place = codestream.index(marker) + offset
    return codestream[:place] + size + codestream[place + len(size) :]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
