"""The one EXIF field that changes what is seen: the orientation."""

from __future__ import annotations

import struct
from typing import Literal

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_LONG = 4


def orientation_of(exif: bytes) -> int:
    """Reads the orientation from EXIF data, with or without its `Exif` prefix.

    Returns:
        1..8 as EXIF numbers them; 1 (upright) where it is absent or makes no sense.
    """
    tiff = exif[6:] if exif.startswith(b"Exif\0") else exif
    order: Literal["<", ">"]
    if tiff.startswith(b"II*\0"):
        order = "<"
    elif tiff.startswith(b"MM\0*"):
        order = ">"
    else:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(entries):
            at = directory + 2 + 12 * index
            tag, kind, _count = struct.unpack_from(f"{order}HHI", tiff, at)
            if tag == _ORIENTATION_TAG:
                return _sane(struct.unpack_from({_SHORT: f"{order}H", _LONG: f"{order}I"}[kind], tiff, at + 8)[0])
    except (struct.error, KeyError):
        pass
    return 1


def _sane(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1
