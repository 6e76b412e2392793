"""BMP files (Windows BITMAPCOREHEADER to BITMAPV5HEADER): size, and whether all rows are there."""

from __future__ import annotations

import struct

from app.media.containers.model import BrokenContainer, Container, damaged, truncated

_CORE_HEADER_BYTES = 12
_RLE8, _RLE4 = 1, 2
_MAX_RLE_BYTES, _MAX_RLE_PIXELS = 1024 * 1024, 4_000_000  # run lengths are decoded by a slow loop


def walk(data: bytes) -> Container:
    """Reads a BMP's headers.

    Raises:
        BrokenContainer: cut short, damaged, or run-length coded and large.
    """
    try:
        pixels_at, header_bytes = struct.unpack_from("<II", data, 10)
        if header_bytes == _CORE_HEADER_BYTES:
            width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
            compression = 0
        else:
            width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    except struct.error:
        raise truncated("BMP") from None
    height = abs(height)
    if width <= 0 or height == 0:
        raise damaged("BMP", "has no width or no height")
    if compression in (_RLE8, _RLE4):
        if len(data) > _MAX_RLE_BYTES or width * height > _MAX_RLE_PIXELS:
            raise BrokenContainer("is a large run-length BMP; send it as PNG", code="unsupported_image_format")
    elif pixels_at + (width * bits + 31) // 32 * 4 * height > len(data):
        raise truncated("BMP")
    return Container(format="bmp", width_px=width, height_px=height, clean=data)
