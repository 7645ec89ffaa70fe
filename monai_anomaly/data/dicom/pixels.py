"""Pixels of a DICOM file as they are stored: by pydicom's decoders, and by ITK where pydicom has none."""

from __future__ import annotations

import os
import struct
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, SecondaryCaptureImageStorage, generate_uid

from ...errors import DataError, reason

__all__ = ["colour_pixels", "grey_pixels"]

Pixels = NDArray[Any]

ONLY_ITK = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)
PIXEL_MODULE = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PixelData",
)  # fmt: skip


def grey_pixels(dataset: Dataset) -> tuple[Pixels, NDArray[np.bool_] | None]:
    """Stored values of grey frames, bright is high: MONOCHROME1 is turned round, as ITK does it.

    Returns:
        ``(frames, rows, columns)``, whole numbers; and where they are padding (PixelPaddingValue), or ``None``.

    Raises:
        DataError: the pixels cannot be decoded.
    """
    stored = _frames(dataset)
    bits, signed = int(dataset.get("BitsStored") or dataset.BitsAllocated), int(dataset.get("PixelRepresentation") or 0) == 1
    padding = _padding(dataset, stored)
    if dataset.get("ModalityLUTSequence"):
        try:
            stored, signed = apply_modality_lut(stored, dataset), False
            bits = int(np.asarray(dataset.ModalityLUTSequence[0].LUTDescriptor)[2])
        except Exception as error:
            raise DataError(
                f"The modality lookup table cannot be applied ({reason(error)}); expected a whole one: export it again."
            ) from error
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        stored = (-1 if signed else 2**bits - 1) - stored.astype(np.int64)
    return stored, padding


def colour_pixels(dataset: Dataset) -> tuple[Pixels, tuple[int, int]]:
    """Frames as RGB, whatever they are stored as.

    Returns:
        ``(frames, rows, columns, 3)``, uint8 or uint16, and the storage range.

    Raises:
        DataError: the pixels cannot be decoded.
    """
    stored = _frames(dataset)
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        try:
            stored = apply_color_lut(stored, dataset)
        except Exception as error:
            raise DataError(f"The palette cannot be applied ({reason(error)}); expected three lookup tables: export it as RGB.") from error
        stored = stored[..., :3]
        if stored.dtype.itemsize > 1 and not (stored & 0xFF).any():  # 8 bits, written into the upper half of 16
            stored = stored >> 8
        return (stored.astype(np.uint8), (0, 255)) if stored.max() <= 255 else (stored.astype(np.uint16), (0, 65535))
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if bits <= 8:
        return stored.astype(np.uint8), (0, 255)
    if stored.min() < 0 or stored.max() > 65535:
        raise DataError(f"The colours lie between {stored.min()} and {stored.max()}; expected 16 bits: export it with fewer.")
    return stored.astype(np.uint16), (0, 2**bits - 1)


def _frames(dataset: Dataset) -> Pixels:
    """``(frames, rows, columns[, 3])``; YBR comes as RGB."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    n = int(dataset.get("NumberOfFrames") or 1)
    _check_streams(dataset, rows, columns)
    try:
        pixels = pixel_array(dataset)
    except Exception as error:  # decoders raise whatever a broken stream makes them raise
        pixels = _by_itk(dataset, error)
    colour = (3,) if int(dataset.get("SamplesPerPixel") or 1) == 3 else ()
    if pixels.size != n * rows * columns * (3 if colour else 1):
        raise DataError(f"The pixels decode to {pixels.shape}; the header says {n} frames of {rows} x {columns}: export it again.")
    return pixels.reshape(n, rows, columns, *colour)


def _by_itk(dataset: Dataset, cause: Exception) -> Pixels:
    """ITK's GDCM knows JPEG lossless, 12-bit JPEG and packed 12 bits. It gets a copy without rescale and identity, and returns the stored values."""
    if "PixelData" not in dataset or not (dataset.file_meta.TransferSyntaxUID in ONLY_ITK or dataset.get("BitsAllocated") == 12):
        raise DataError(f"The pixels cannot be decoded ({reason(cause)}); expected whole pixel data: export it again.") from cause
    import itk  # takes seconds to load, and few files need it

    bare = Dataset()
    for keyword in PIXEL_MODULE:
        if keyword in dataset:
            bare[keyword] = dataset[keyword]
    bare.SOPClassUID, bare.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    if bare.get("PhotometricInterpretation") in (None, "MONOCHROME1"):
        bare.PhotometricInterpretation = "MONOCHROME2"  # turned round later, once
    if bare.get("PixelData") and dataset.file_meta.TransferSyntaxUID.is_encapsulated:  # GDCM allocates what a fragment claims to hold
        bare.PixelData = encapsulate(list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1))))
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID, bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPClassUID, bare.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "frames.dcm")
        try:
            bare.save_as(path, enforce_file_format=True)
            image_io = itk.GDCMImageIO.New()
            return np.asarray(itk.array_from_image(itk.imread(path, imageio=image_io)))
        except Exception as error:
            raise DataError(
                f"The pixels ({dataset.file_meta.TransferSyntaxUID.name}) can be decoded neither by pydicom nor by ITK ({reason(cause)}); "
                "expected a standard transfer syntax and whole data: export it again, uncompressed if that is offered."
            ) from error


def _padding(dataset: Dataset, stored: Pixels) -> NDArray[np.bool_] | None:
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    other = limit if isinstance(limit, int) else value
    if int(dataset.get("PixelRepresentation") or 0) == 1:  # some write the bits of a negative number as an unsigned one
        half = 2 ** (int(dataset.BitsAllocated) - 1)
        value, other = ((number + half) % (2 * half) - half for number in (value, other))
    padded: NDArray[np.bool_] = (stored >= min(value, other)) & (stored <= max(value, other))
    return padded if padded.any() and not padded.all() else None


def _check_streams(dataset: Dataset, rows: int, columns: int) -> None:
    """A compressed stream says its own size, which a decoder allocates: it must be the header's."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_transfer_syntax:
        raise DataError("The file does not name a known transfer syntax; expected one in the file meta information: export it again.")
    if not syntax.is_encapsulated:
        return
    try:
        for frame in generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)):
            size = _stream_size(frame)
            if size is not None and size != (rows, columns):
                raise DataError(f"The compressed picture is {size[0]} x {size[1]}, the header says {rows} x {columns}: export it again.")
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"The compressed frames cannot be told apart ({reason(error)}); expected whole fragments: export it again."
        ) from error


def _stream_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a JPEG, JPEG-LS or JPEG 2000 stream; ``None`` if it is none of these (RLE has no size of its own)."""
    if stream[:4] == b"\0\0\0\x0c":  # JP2 boxes around the codestream
        stream = stream[max(stream.find(b"\xff\x4f\xff\x51"), 0) :]
    if stream[:4] == b"\xff\x4f\xff\x51":
        width, height, left, top = struct.unpack(">4I", stream[8:24])
        return height - top, width - left
    if stream[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(stream):
        if stream[place] != 0xFF:
            return None
        marker = stream[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7):
            height, width = struct.unpack(">2H", stream[place + 5 : place + 9])
            return height, width
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return None
