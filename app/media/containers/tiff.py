"""TIFF files (TIFF 6.0): the first page's directory, and whether its strips or tiles lie in the file.

What is decoded is the same file under a directory of ours, which holds only the fields that pixels need: metadata,
further pages and directories inside directories are not even looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from app.media.containers.model import Container, damaged, truncated

_WIDTH, _HEIGHT, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR = 256, 257, 274, 277, 278, 284
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_PROFILE = 34675
_KEPT = frozenset(
    {_WIDTH, _HEIGHT, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, _STRIP_OFFSETS, _STRIP_BYTES, _PROFILE}
    | {_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES}
    | {258, 259, 262, 266}  # bits, compression, photometric interpretation, fill order
    | {292, 293, 317, 320, 332}  # fax options, predictor, colour map, inks
    | {338, 339, 347, 529, 530, 531, 532}  # alpha, sample format, JPEG tables, YCbCr
)
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I"}
_MAX_VALUES = 200_000
_MAX_TILE_SIDE_PX = 16_384
_MAX_TILE_PIXELS = 1 << 24  # a decoder makes room for whole tiles, however small the picture


@dataclass(frozen=True, slots=True)
class _Field:
    """One entry of a directory: twelve bytes, and where its values stand."""

    entry: bytes
    kind: int
    count: int
    values_at: int

    @property
    def values_bytes(self) -> int:
        return self.count * _TYPE_BYTES[self.kind]


def walk(data: bytes) -> Container:
    """Reads a TIFF's first page.

    Raises:
        BrokenContainer: cut short, or damaged.
    """
    try:
        return _Page(data).container()
    except struct.error:
        raise truncated("TIFF") from None


class _Page:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = "<" if data.startswith(b"II") else ">"
        self._fields: dict[int, _Field] = {}
        (at,) = struct.unpack_from(f"{self._order}I", data, 4)
        (entries,) = struct.unpack_from(f"{self._order}H", data, at)
        for index in range(entries):
            self._read_entry(at + 2 + 12 * index)
        # The values of one directory do not overlap; a reader that copies each would drown in those that do.
        if sum(field.values_bytes for field in self._fields.values()) > len(data):
            raise damaged("TIFF", "has a directory larger than the file")

    def _read_entry(self, at: int) -> None:
        tag, kind, count = struct.unpack_from(f"{self._order}HHI", self._data, at)
        if tag not in _KEPT or tag in self._fields or kind not in _TYPE_BYTES:
            return
        values_at = at + 8
        if count * _TYPE_BYTES[kind] > 4:
            (values_at,) = struct.unpack_from(f"{self._order}I", self._data, at + 8)
        if values_at + count * _TYPE_BYTES[kind] > len(self._data):
            raise truncated("TIFF")
        self._fields[tag] = _Field(self._data[at : at + 12], kind, count, values_at)

    def _numbers(self, tag: int) -> tuple[int, ...]:
        field = self._fields.get(tag)
        if field is None or field.kind not in _INTEGERS:
            return ()
        if field.count > _MAX_VALUES:
            raise damaged("TIFF", "is in too many pieces")
        return struct.unpack_from(f"{self._order}{field.count}{_INTEGERS[field.kind]}", self._data, field.values_at)

    def _number(self, tag: int, default: int = 0) -> int:
        return (self._numbers(tag) or (default,))[0]

    def container(self) -> Container:
        width, height = self._number(_WIDTH), self._number(_HEIGHT)
        if not width or not height:
            raise damaged("TIFF", "has no width or no height")
        if _TILE_OFFSETS in self._fields or _TILE_WIDTH in self._fields:
            pieces = self._tiles(width, height)
            offsets, sizes = self._numbers(_TILE_OFFSETS), self._numbers(_TILE_BYTES)
        else:
            pieces = -(-height // min(max(self._number(_ROWS_PER_STRIP, height), 1), height))
            offsets, sizes = self._numbers(_STRIP_OFFSETS), self._numbers(_STRIP_BYTES)
        if self._number(_PLANAR, 1) == 2:
            pieces *= max(1, self._number(_SAMPLES, 1))
        if len(offsets) < pieces or any(offset >= len(self._data) for offset in offsets):
            raise truncated("TIFF")
        if any(offset + size > len(self._data) for offset, size in zip(offsets, sizes, strict=False)):
            raise truncated("TIFF")
        return Container(format="tiff", width_px=width, height_px=height, clean=self._clean())

    def _tiles(self, width_px: int, height_px: int) -> int:
        tile_width, tile_height = self._number(_TILE_WIDTH), self._number(_TILE_HEIGHT)
        if not (0 < tile_width <= _MAX_TILE_SIDE_PX and 0 < tile_height <= _MAX_TILE_SIDE_PX):
            raise damaged("TIFF", "has tiles of no sound size")
        if tile_width * tile_height > _MAX_TILE_PIXELS:
            raise damaged("TIFF", "has tiles of no sound size")
        return -(-width_px // tile_width) * -(-height_px // tile_height)

    def _clean(self) -> bytes:
        """The file with a directory of the kept fields at its end. Values stay where they are."""
        directory_at = len(self._data) + (len(self._data) & 1)
        head = self._data[:4] + struct.pack(f"{self._order}I", directory_at)
        entries = [field.entry for _, field in sorted(self._fields.items())]
        directory = struct.pack(f"{self._order}H", len(entries)) + b"".join(entries) + bytes(4)
        return b"".join((head, memoryview(self._data)[8:], bytes(len(self._data) & 1), directory))
