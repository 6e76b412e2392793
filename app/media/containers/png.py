"""PNG files (PNG third edition, 2025): chunks walked to IEND, checksums of what is kept compared.

What stays: header, palette, transparency, pixels, end. All else goes: text, EXIF, time, profiles, gamma hints (no
common vision model honours them), the further frames of an animation, whatever follows the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from app.media.containers.model import (
    MAX_PROFILE_BYTES,
    ColourModel,
    Container,
    Keep,
    damaged,
    inflate_bounded,
    truncated,
)
from app.media.exif import orientation_of

_MAX_CHUNKS = 100_000
_MAX_DEFLATE_RATIO = 1032  # zlib's own limit
_PROBE_BYTES = 256 * 1024
_LAST_FILTER = 4  # of those that a row may name
_END = b"IEND\xaeB`\x82"

_COLOURS: dict[int, tuple[ColourModel, int, frozenset[int]]] = {  # type: model, channels, bit depths
    0: ("grey", 1, frozenset({1, 2, 4, 8, 16})),
    2: ("rgb", 3, frozenset({8, 16})),
    3: ("palette", 1, frozenset({1, 2, 4, 8})),
    4: ("grey", 2, frozenset({8, 16})),
    6: ("rgb", 4, frozenset({8, 16})),
}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def walk(data: bytes) -> Container:
    """Reads a PNG to its IEND.

    Raises:
        BrokenContainer: cut short, or damaged.
    """
    return _Walk(data).run()


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._keep = Keep(data)
        self._width_px = self._height_px = self._bit_depth = self._colour_type = self._interlace = 0
        self._has_palette = self._transparent = self._animated = False
        self._orientation = 1
        self._profile: bytes | None = None
        self._pixels: list[memoryview] = []
        self._pixels_end = 0

    def run(self) -> Container:
        self._keep.span(0, 8)
        at = 8
        for _ in range(_MAX_CHUNKS):
            if at + 12 > len(self._data):
                raise truncated("PNG")
            length, kind = struct.unpack_from(">I4s", self._data, at)
            end = at + 12 + length
            if end > len(self._data):
                raise truncated("PNG")
            if (at == 8) != (kind == b"IHDR"):
                raise damaged("PNG", "does not begin with one header")
            if kind == b"IEND":
                self._keep_chunk(at, end)
                return self._container()
            if kind == b"IDAT" and not self._is_sound(at, end):
                return self._doubtful(at)
            self._chunk(kind, at, end)
            at = end
        raise damaged("PNG", "has too many chunks")

    def _is_sound(self, at: int, end: int) -> bool:
        (checksum,) = struct.unpack_from(">I", self._data, end - 4)
        return zlib.crc32(self._view[at + 4 : end - 4]) == int(checksum)

    def _keep_chunk(self, at: int, end: int) -> None:
        if not self._is_sound(at, end):
            raise damaged("PNG", "does not match its checksum")
        self._keep.span(at, end)

    def _doubtful(self, at: int) -> Container:
        """Pixels that do not match their checksum may be whole all the same, as careless writers make them: they are
        decoded, and what decodes to the last row is written anew. A file that was cut has no end and stays refused."""
        if _END not in self._data[at:]:
            raise truncated("PNG")
        if self._colour_type == 3 and not self._has_palette:
            raise damaged("PNG", "has no palette")
        return self._described(self._data, passable=False)

    def _chunk(self, kind: bytes, at: int, end: int) -> None:
        match kind:
            case b"IHDR":
                self._read_header(at, end)
            case b"PLTE":
                self._read_palette(at, end)
            case b"tRNS":
                self._read_transparency(at, end)
            case b"IDAT":
                self._read_pixels(at, end)
            case b"eXIf":
                self._orientation = orientation_of(self._data[at + 8 : end - 4])
            case b"iCCP":
                self._read_profile(at, end)
            case b"acTL":
                self._animated = True
            case _ if not kind[0] & 0x20:  # a capital first letter: no picture without it
                raise damaged("PNG", "has an unknown critical chunk")

    def _read_header(self, at: int, end: int) -> None:
        if end - at != 25:
            raise damaged("PNG", "has a header of the wrong size")
        self._width_px, self._height_px, self._bit_depth, self._colour_type, packing, filtering, self._interlace = (
            struct.unpack_from(">IIBBBBB", self._data, at + 8)
        )
        colour = _COLOURS.get(self._colour_type)
        if colour is None or self._bit_depth not in colour[2] or packing or filtering or self._interlace > 1:
            raise damaged("PNG", "has a header that makes no sense")
        if not self._width_px or not self._height_px:
            raise damaged("PNG", "has no width or no height")
        self._keep_chunk(at, end)

    def _read_palette(self, at: int, end: int) -> None:
        colours, rest = divmod(end - at - 12, 3)
        if self._has_palette or rest or not 1 <= colours <= 256 or self._pixels:
            raise damaged("PNG", "has a palette that makes no sense")
        if self._colour_type == 3:  # elsewhere it is a mere suggestion
            self._keep_chunk(at, end)
            self._has_palette = True

    def _read_transparency(self, at: int, end: int) -> None:
        alphas = self._data[at + 8 : end - 4]
        if self._pixels or self._transparent or self._colour_type in (4, 6):
            return  # means nothing there
        if self._colour_type == 3 and alphas.count(0xFF) == len(alphas):
            return
        if (self._colour_type == 0 and len(alphas) != 2) or (self._colour_type == 2 and len(alphas) != 6):
            raise damaged("PNG", "has a transparency chunk of the wrong size")
        self._transparent = True
        self._keep_chunk(at, end)

    def _read_pixels(self, at: int, end: int) -> None:
        if self._pixels and at != self._pixels_end:
            raise damaged("PNG", "has its pixels torn apart")
        self._keep.span(at, end)
        self._pixels.append(self._view[at + 8 : end - 4])
        self._pixels_end = end

    def _read_profile(self, at: int, end: int) -> None:
        name_end = self._data.find(b"\0", at + 8, min(at + 8 + 80, end - 4))
        if name_end > 0:
            self._profile = inflate_bounded(self._view[name_end + 2 : end - 4], MAX_PROFILE_BYTES)

    def _container(self) -> Container:
        if not sum(map(len, self._pixels)):
            raise damaged("PNG", "has no pixels")
        if self._colour_type == 3 and not self._has_palette:
            raise damaged("PNG", "has no palette")
        sound = self._probe_pixels()
        return self._described(self._keep.result(), passable=sound and self._bit_depth <= 8)

    def _described(self, clean: bytes, *, passable: bool) -> Container:
        alpha = self._colour_type in (4, 6)
        return Container(
            format="png",
            width_px=self._width_px,
            height_px=self._height_px,
            clean=clean,
            orientation=self._orientation,
            animated=self._animated,
            transparent=alpha or self._transparent,
            colour=_COLOURS[self._colour_type][0],
            bit_depth=self._bit_depth,
            profile=self._profile,
            passable=passable,
        )

    def _probe_pixels(self) -> bool:
        """Inflates the first part of the pixels: rubbish shows at once, and a small picture is proved whole.

        Returns:
            Whether they may pass. A small picture's do where they are its rows and nothing else: what hides behind
            them goes when it is written anew.
        """
        expected = self._raw_bytes()
        if sum(map(len, self._pixels)) * _MAX_DEFLATE_RATIO < expected:
            raise truncated("PNG")
        wanted = min(expected, _PROBE_BYTES)
        stream = zlib.decompressobj()
        rows = bytearray()
        pieces = iter(self._pixels)
        try:
            for piece in pieces:
                rows += stream.decompress(piece, wanted - len(rows))
                if len(rows) >= wanted:
                    break
        except zlib.error:
            raise damaged("PNG", "does not inflate") from None
        if len(rows) < wanted:
            raise truncated("PNG")
        return self._filters_exist(rows) and (wanted < expected or _ends_there(stream, pieces))

    def _filters_exist(self, rows: bytearray) -> bool:
        row_bytes = 1 + (self._width_px * self._bits_per_pixel + 7) // 8
        return bool(self._interlace) or max(rows[::row_bytes]) <= _LAST_FILTER

    @property
    def _bits_per_pixel(self) -> int:
        return self._bit_depth * _COLOURS[self._colour_type][1]

    def _raw_bytes(self) -> int:
        bits = self._bits_per_pixel
        if not self._interlace:
            return self._height_px * (1 + (self._width_px * bits + 7) // 8)
        total = 0
        for left, top, step_x, step_y in _ADAM7:
            columns = -(-(self._width_px - left) // step_x) if self._width_px > left else 0
            rows = -(-(self._height_px - top) // step_y) if self._height_px > top else 0
            total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
        return total


def _ends_there(stream: zlib._Decompress, rest: Iterator[memoryview]) -> bool:
    """Whether a stream, inflated to where it should end, ends just there, and soundly."""
    try:
        more = stream.decompress(b"".join((stream.unconsumed_tail, *rest)), 1)
    except zlib.error:
        return False
    return stream.eof and not more and not stream.unused_data
