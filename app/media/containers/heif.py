"""HEIC, HEIF and AVIF files (ISO/IEC 23008-12): boxes walked to the end, the largest stated picture size read.

Orientation is a property of the picture there, which decoders apply; EXIF may contradict it and must be ignored. So
metadata is hidden from the decoder, whose reading of it has no bounds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal, TypeAlias

from app.media.containers.model import Container, damaged, truncated

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_METADATA_ITEMS = frozenset({b"Exif", b"mime"})
_MAX_BOXES = 20_000

Brand: TypeAlias = Literal["heif", "avif"]


def brand_of(data: bytes) -> Brand | None:
    """Which of the two an ISO file is, by its brands; `None` for films and all else."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 8 + 4 * 64, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else None


def walk(data: bytes, brand: Brand) -> Container:
    """Reads the boxes of a HEIF or AVIF file.

    Raises:
        BrokenContainer: cut short, or without a picture.
    """
    return _Walk(data, brand).run()


class _Walk:
    def __init__(self, data: bytes, brand: Brand) -> None:
        self._data = data
        self._brand: Brand = brand
        self._name = brand.upper()
        self._boxes_seen = 0
        self._sizes: list[tuple[int, int]] = []
        self._metadata_at: list[int] = []

    def run(self) -> Container:
        for kind, start, end in self._boxes(0, len(self._data)):
            if kind == b"meta":
                self._read_meta(start + 4, end)
        width = max((width for width, _ in self._sizes), default=0)
        height = max((height for _, height in self._sizes), default=0)
        if not width or not height:
            raise damaged(self._name, "has no picture")
        return Container(format=self._brand, width_px=width, height_px=height, clean=self._clean())

    def _read_meta(self, start: int, end: int) -> None:
        for kind, inner, inner_end in self._boxes(start, end):
            if kind == b"iinf" and inner < inner_end:
                self._read_items(inner + (6 if self._data[inner] == 0 else 8), inner_end)
            elif kind == b"iprp":
                self._sizes += [self._size(*box) for box in self._inside((b"ipco", b"ispe"), inner, inner_end)]

    def _read_items(self, start: int, end: int) -> None:
        """Notes where items are called EXIF or XMP."""
        for kind, inner, inner_end in self._boxes(start, end):
            if kind == b"infe" and inner < inner_end:
                type_at = inner + (10 if self._data[inner] >= 3 else 8)
                if type_at + 4 <= inner_end and self._data[type_at : type_at + 4] in _METADATA_ITEMS:
                    self._metadata_at.append(type_at)

    def _clean(self) -> bytes:
        """The file with its metadata renamed to what no decoder looks at; nothing moves."""
        if not self._metadata_at:
            return self._data
        clean = bytearray(self._data)
        for at in self._metadata_at:
            clean[at : at + 4] = b"none"
        return bytes(clean)

    def _inside(self, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
        """Start and end of the payloads of the boxes at a path of kinds."""
        for kind, inner, inner_end in self._boxes(start, end):
            if kind == path[0]:
                if len(path) > 1:
                    yield from self._inside(path[1:], inner, inner_end)
                else:
                    yield inner, inner_end

    def _size(self, start: int, end: int) -> tuple[int, int]:
        """What an `ispe` box says: the size of the picture, of a tile of it or of a thumbnail."""
        if end - start < 12:
            raise damaged(self._name, "has no sound size")
        return struct.unpack_from(">II", self._data, start + 4)

    def _boxes(self, at: int, limit: int) -> Iterator[tuple[bytes, int, int]]:
        """Kind, start and end of the payload of each box between two offsets."""
        while at < limit:
            self._boxes_seen += 1
            if self._boxes_seen > _MAX_BOXES:
                raise damaged(self._name, "has too many boxes")
            if at + 8 > limit:
                raise truncated(self._name)
            size, kind, header = int.from_bytes(self._data[at : at + 4], "big"), self._data[at + 4 : at + 8], 8
            if size == 1:
                size, header = int.from_bytes(self._data[at + 8 : at + 16], "big"), 16
            elif size == 0:
                size = limit - at
            if size < header:
                raise damaged(self._name, "has a box of no length")
            if at + size > limit:
                raise truncated(self._name)
            yield kind, at + header, at + size
            at += size
