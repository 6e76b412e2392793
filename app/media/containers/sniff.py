"""Tells a picture's format by its first bytes; labels and names are not believed."""

from __future__ import annotations

from collections.abc import Callable

from app.media.containers import bmp, gif, heif, jpeg, png, tiff, webp
from app.media.containers.model import BrokenContainer, Container

_TAKEN = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF"

_WALKS: tuple[tuple[bytes, Callable[[bytes], Container]], ...] = (
    (b"\xff\xd8\xff", jpeg.walk),
    (b"\x89PNG\r\n\x1a\n", png.walk),
    (b"GIF87a", gif.walk),
    (b"GIF89a", gif.walk),
    (b"II*\0", tiff.walk),
    (b"MM\0*", tiff.walk),
    (b"BM", bmp.walk),
)


def walk(data: bytes) -> Container:
    """Reads the headers of a picture file and walks it to its end.

    Raises:
        BrokenContainer: empty, of a format we do not take, cut short or damaged.
    """
    if not data:
        raise BrokenContainer(f"is empty; send a {_TAKEN} file")
    for signature, walk_format in _WALKS:
        if data.startswith(signature):
            return walk_format(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp.walk(data)
    if (brand := heif.brand_of(data)) is not None:
        return heif.walk(data, brand)
    raise BrokenContainer(f"is in a format that is not taken; send {_TAKEN}", code="unsupported_image_format")
