"""Image files (PNG, JPEG, BMP, TIFF) as grey or colour pixels, whatever way they are stored."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from monai.data import PILReader
from PIL import Image

from ..errors import DataError, reason
from .formats import RASTER_FORMATS, file_format
from .geometry import MAX_PIXELS

__all__ = ["raster_shape", "read_raster"]


def read_raster(path: str | os.PathLike[str]) -> tuple[np.ndarray[Any, Any], tuple[int, int]]:
    """Decode an image file with MONAI's PILReader, rows first.

    Palettes become colours; transparent pixels are laid on black; 1-bit becomes 0 and 255; CMYK and other colour spaces become RGB; 16-bit grey stays
    16-bit; colour whose three channels are equal everywhere is grey. An orientation tag of a camera (EXIF) is not applied: pixels stay as stored.

    Args:
        path: the file; its format is told by its content.

    Returns:
        ``(H, W)`` or ``(H, W, 3)``, uint8 or uint16; and the storage range, ``(0, 255)`` or ``(0, 65535)``.

    Raises:
        DataError: it cannot be decoded, is too large, has several pages, 16-bit colour or a pixel type without a known range.

    Example:
        >>> pixels, value_range = read_raster("scan.png")  # doctest: +SKIP
    """
    try:
        reader = PILReader(converter=_to_plain_mode, reverse_indexing=False, formats=RASTER_FORMATS)
        _check_depth(path)
        pixels, _ = reader.get_data(reader.read(path))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them raise
        raise _undecodable(error) from error
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        return pixels, (0, 255)
    if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
        raise DataError(
            f"The pixels lie between {pixels.min()} and {pixels.max()}; expected 8 or 16 bits: save it so, or as a NIfTI volume."
        )
    return pixels.astype(np.uint16), (0, 65535)


def raster_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Rows and columns, from the header; refuses what the header already shows to be unreadable, and decodes nothing.

    Raises:
        DataError: as in :func:`read_raster`.

    Example:
        >>> raster_shape("scan.png")  # doctest: +SKIP
        (300, 200)
    """
    try:
        _check_depth(path)
        with Image.open(path, formats=RASTER_FORMATS) as image:
            _check(image)
            return image.height, image.width
    except DataError:
        raise
    except Exception as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> DataError:
    text = "not a whole image" if isinstance(error, Image.UnidentifiedImageError) else reason(error)
    return DataError(f"The image cannot be decoded ({text}); expected a whole PNG, JPEG, BMP or TIFF file: copy or export it again.")


def _check_depth(path: str | os.PathLike[str]) -> None:
    """Pillow drops the lower eight bits of 16-bit colour without a word."""
    if file_format(path) == "PNG":
        with open(path, "rb") as file:
            head = file.read(26)
        if len(head) == 26 and head[24] == 16 and head[25] != 0:
            raise DataError("The PNG has 16-bit colour or transparency; expected 8-bit colour or 16-bit grey: convert it.")


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"The image has {image.width} x {image.height} pixels; expected at most {MAX_PIXELS:,} in all: crop or shrink it.")
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise DataError(f"The TIFF holds {getattr(image, 'n_frames', 0)} pages; expected one: save each page as a file of its own.")
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise DataError(
            f"The pixels are 32-bit ({image.mode}), whose range is not known; expected 8 or 16 bits: save it so, or as a NIfTI volume."
        )


def _to_plain_mode(image: Image.Image) -> Image.Image:
    """PILReader's converter: ``L``, ``RGB`` or 16-bit grey."""
    _check(image)
    image.load()
    if image.mode == "I" or image.mode.startswith("I;16"):
        return image
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    if image.mode in ("L", "1"):
        return image.convert("L")
    return image.convert("RGB")
