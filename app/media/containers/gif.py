"""GIF files (GIF89a): blocks walked to the trailer. Only the first frame is ever decoded."""

from __future__ import annotations

import struct

from app.media.containers.model import Container, damaged, truncated

_MAX_BLOCKS = 300_000
_IMAGE, _EXTENSION, _TRAILER, _GRAPHIC_CONTROL = 0x2C, 0x21, 0x3B, 0xF9


def walk(data: bytes) -> Container:
    """Reads a GIF to its trailer.

    Raises:
        BrokenContainer: cut short, damaged, or of more blocks than a sane animation has.
    """
    try:
        return _Walk(data).run()
    except (IndexError, struct.error):
        raise truncated("GIF") from None


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._blocks = 0
        self._frames = 0
        self._first_frame_end = 0
        self._transparent = False
        self._width_px, self._height_px = 0, 0

    def run(self) -> Container:
        self._width_px, self._height_px, flags = struct.unpack_from("<HHB", self._data, 6)
        at = 13 + _colour_table_bytes(flags)
        while (kind := self._data[at]) != _TRAILER:
            if kind == _EXTENSION:
                at = self._extension(at)
            elif kind == _IMAGE:
                at = self._frame(at)
            else:
                raise damaged("GIF", "has an unknown block")
        if not self._frames:
            raise damaged("GIF", "has no picture")
        if not self._width_px or not self._height_px:
            raise damaged("GIF", "has no width or no height")
        whole = self._frames == 1 and at + 1 == len(self._data)
        return Container(
            format="gif",
            width_px=self._width_px,
            height_px=self._height_px,
            clean=self._data if whole else self._data[: self._first_frame_end] + b";",
            animated=self._frames > 1,
            transparent=self._transparent,
            colour="palette",
        )

    def _extension(self, at: int) -> int:
        if self._data[at + 1] == _GRAPHIC_CONTROL and not self._frames and self._data[at + 3] & 1:
            self._transparent = True
        return self._sub_blocks(at + 2)

    def _frame(self, at: int) -> int:
        left, top, width, height, flags = struct.unpack_from("<HHHHB", self._data, at + 1)
        end = self._sub_blocks(at + 10 + _colour_table_bytes(flags) + 1)
        self._frames += 1
        if self._frames == 1:
            self._first_frame_end = end
            if (left, top, width, height) != (0, 0, self._width_px, self._height_px):
                self._transparent = True
            # Decoders widen the canvas to what the frame covers.
            self._width_px, self._height_px = max(self._width_px, left + width), max(self._height_px, top + height)
        return end

    def _sub_blocks(self, at: int) -> int:
        while size := self._data[at]:
            at += size + 1
            self._blocks += 1
            if self._blocks > _MAX_BLOCKS:
                raise damaged("GIF", "has too many blocks")
        self._blocks += 1
        return at + 1


def _colour_table_bytes(flags: int) -> int:
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0
