"""Whether bytes begin like a picture."""

from __future__ import annotations

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")


def is_picture(data: bytes | bytearray) -> bool:
    """Whether they begin as JPEG, PNG, GIF, BMP, TIFF, WebP, HEIF or AVIF do; nothing more is looked at."""
    return data.startswith(_BEGINNINGS) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or data[4:8] == b"ftyp"
