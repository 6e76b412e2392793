"""TIFF files (TIFF 6.0): the first page's directory; its strips or tiles must lie in the file."""

from __future__ import annotations

import struct

from app.media.containers.model import Container, damaged, truncated

_WIDTH, _HEIGHT, _ROWS_PER_STRIP, _SAMPLES, _PLANAR = 256, 257, 278, 277, 284
_STRIP_OFFSETS, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 273, 279, 322, 323, 324, 325
_WANTED = frozenset({256, 257, 273, 277, 278, 279, 284, 322, 323, 324, 325})
_TYPES = {1: "B", 3: "H", 4: "I"}
_MAX_TILE_SIDE_PX = 16_384
_MAX_TILE_PIXELS = 1 << 24  # a decoder makes room for whole tiles, however small the picture


def walk(data: bytes) -> Container:
    """Reads a TIFF's first page.

    Raises:
        BrokenContainer: cut short, or damaged.
    """
    try:
        return _page(data, _directory(data))
    except struct.error:
        raise truncated("TIFF") from None


def _directory(data: bytes) -> dict[int, tuple[int, ...]]:
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, at)
    fields: dict[int, tuple[int, ...]] = {}
    for index in range(entries):
        entry_at = at + 2 + 12 * index
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, entry_at)
        if tag not in _WANTED or kind not in _TYPES:
            continue
        values_at = entry_at + 8
        if count * struct.calcsize(_TYPES[kind]) > 4:
            (values_at,) = struct.unpack_from(f"{order}I", data, values_at)
        if count > len(data):
            raise truncated("TIFF")
        fields[tag] = struct.unpack_from(f"{order}{count}{_TYPES[kind]}", data, values_at)
    return fields


def _page(data: bytes, fields: dict[int, tuple[int, ...]]) -> Container:
    def first(tag: int, default: int = 0) -> int:
        return (fields.get(tag) or (default,))[0]

    width, height = first(_WIDTH), first(_HEIGHT)
    if not width or not height:
        raise damaged("TIFF", "has no width or no height")
    if _TILE_OFFSETS in fields or _TILE_WIDTH in fields:
        tile_width, tile_height = first(_TILE_WIDTH), first(_TILE_HEIGHT)
        if not (0 < tile_width <= _MAX_TILE_SIDE_PX and 0 < tile_height <= _MAX_TILE_SIDE_PX):
            raise damaged("TIFF", "has tiles of no sound size")
        if tile_width * tile_height > _MAX_TILE_PIXELS:
            raise damaged("TIFF", "has tiles of no sound size")
        pieces = -(-width // tile_width) * -(-height // tile_height)
        offsets, sizes = fields.get(_TILE_OFFSETS, ()), fields.get(_TILE_BYTES, ())
    else:
        pieces = -(-height // min(max(first(_ROWS_PER_STRIP, height), 1), height))
        offsets, sizes = fields.get(_STRIP_OFFSETS, ()), fields.get(_STRIP_BYTES, ())
    if first(_PLANAR, 1) == 2:
        pieces *= max(1, first(_SAMPLES, 1))
    if len(offsets) < pieces or any(offset >= len(data) for offset in offsets):
        raise truncated("TIFF")
    if any(offset + size > len(data) for offset, size in zip(offsets, sizes, strict=False)):
        raise truncated("TIFF")
    return Container(format="tiff", width_px=width, height_px=height, clean=data)
