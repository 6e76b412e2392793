"""JPEG files (ITU T.81, JFIF 1.02, Adobe TN 5116): segments walked to the end of image, scans skipped by marker search.

What stays: frame and scan headers, tables, scan data, and the JFIF and Adobe headers, which say how the channels are
meant, cut to their fixed form. All else goes: EXIF, XMP, profiles, previews, comments, whatever follows the end.
"""

from __future__ import annotations

import re
import struct

from app.media.containers.model import (
    MAX_PROFILE_BYTES,
    BrokenContainer,
    ColourModel,
    Container,
    Keep,
    damaged,
    truncated,
)
from app.media.exif import orientation_of

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # not a stuffed byte, a restart or a fill byte
_SEARCH_WINDOW_BYTES = 256 * 1024  # the search holds the interpreter; other threads get their turn between windows

_MAX_SEGMENTS = 5_000
_MAX_SCANS = 100
_MAX_SCANNED_PIXELS = 2_000_000_000  # pixels × scans: a decoder passes over all pixels in every scan

_EOI, _SOS, _APP0, _APP1, _APP2, _APP14, _DQT = 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # Huffman-coded, baseline to progressive: what every decoder reads
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})
_DROPPED = frozenset({*range(0xE0, 0xF0), 0xFE, 0xDC})
_COLOURS: dict[int, ColourModel] = {1: "grey", 3: "rgb", 4: "cmyk"}
_PLAIN_JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"


def walk(data: bytes) -> Container:
    """Reads a JPEG to its end of image.

    Raises:
        BrokenContainer: cut short, damaged, a scan bomb, or of a rare kind no decoder of ours reads.
    """
    return _Walk(data).run()


class _Walk:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._keep = Keep(data)
        self._frame = 0
        self._width_px = self._height_px = self._channels = 0
        self._orientation: int | None = None
        self._jfif = self._adobe = self._quantised = False
        self._profile_parts: dict[int, bytes] = {}
        self._scans = 0
        self._scan_bytes = 0

    def run(self) -> Container:
        self._keep.span(0, 2)
        at = 2
        for _ in range(_MAX_SEGMENTS):
            at = self._next_marker(at)
            marker = self._data[at + 1]
            if marker == _EOI:
                self._keep.span(at, at + 2)
                return self._container()
            end = self._segment_end(at)
            if marker == _SOS:
                end = self._scan(at, end)
            else:
                self._segment(marker, at, end)
            at = end
        raise damaged("JPEG", "has thousands of segments")

    def _next_marker(self, at: int) -> int:
        while at + 1 < len(self._data):
            found = _MARKER.search(self._data, at, at + _SEARCH_WINDOW_BYTES + 1)
            if found is not None:
                return found.start()
            at += _SEARCH_WINDOW_BYTES
        raise truncated("JPEG")

    def _segment_end(self, at: int) -> int:
        if at + 4 > len(self._data):
            raise truncated("JPEG")
        length = int.from_bytes(self._data[at + 2 : at + 4], "big")
        if length < 2:
            raise damaged("JPEG", "has a segment of no length")
        if at + 2 + length > len(self._data):
            raise truncated("JPEG")
        return at + 2 + length

    def _scan(self, at: int, header_end: int) -> int:
        if not self._frame:
            raise damaged("JPEG", "has pixels before their size")
        self._scans += 1
        scanned_pixels = self._scans * self._width_px * self._height_px
        if self._scans > _MAX_SCANS or (self._scans > 1 and scanned_pixels > _MAX_SCANNED_PIXELS):
            raise damaged("JPEG", "has too many scans")
        end = self._next_marker(header_end)
        self._scan_bytes += end - header_end
        self._keep.span(at, end)
        return end

    def _segment(self, marker: int, at: int, end: int) -> None:
        if marker in _FRAMES:
            self._read_frame(marker, at, end)
        elif marker in _TABLES:
            self._quantised = self._quantised or marker == _DQT
            self._keep.span(at, end)
        elif marker == _APP0:
            self._read_jfif(at, end)
        elif marker == _APP14:
            self._read_adobe(at, end)
        elif marker == _APP1:
            if self._orientation is None and self._data.startswith(b"Exif\0", at + 4):
                self._orientation = orientation_of(self._data[at + 4 : end])
        elif marker == _APP2:
            self._read_profile(at, end)
        elif marker not in _DROPPED:
            raise damaged("JPEG", "has an unknown marker")

    def _read_frame(self, marker: int, at: int, end: int) -> None:
        if self._frame or end - at < 10:
            raise damaged("JPEG", "has no sound frame header")
        depth, self._height_px, self._width_px, self._channels = struct.unpack_from(">BHHB", self._data, at + 4)
        if depth != 8 or self._channels not in (1, 3, 4):
            raise BrokenContainer(
                "is a JPEG of a rare kind, not of 8 bits in 1, 3 or 4 channels; export it again as a plain JPEG or PNG",
                code="unsupported_image_format",
            )
        if not self._height_px or not self._width_px or end - at != 10 + 3 * self._channels:
            raise damaged("JPEG", "has no sound frame header")
        self._frame = marker
        self._keep.span(at, end)

    def _read_jfif(self, at: int, end: int) -> None:
        if self._jfif or not self._data.startswith(b"JFIF\0", at + 4) or end - at < 18:
            return
        self._jfif = True
        if end - at == 18 and self._data[end - 2 : end] == b"\0\0":
            self._keep.span(at, end)
        else:  # a preview comes with it
            self._keep.insert(_PLAIN_JFIF)

    def _read_adobe(self, at: int, end: int) -> None:
        if self._adobe or not self._data.startswith(b"Adobe", at + 4) or end - at < 16:
            return
        self._adobe = True
        if end - at == 16:
            self._keep.span(at, end)
        else:
            self._keep.insert(b"\xff\xee\x00\x0e" + self._data[at + 4 : at + 16])

    def _read_profile(self, at: int, end: int) -> None:
        if self._data.startswith(b"ICC_PROFILE\0", at + 4) and end - at > 18:
            self._profile_parts.setdefault(self._data[at + 16], self._data[at + 18 : end])

    def _container(self) -> Container:
        if not self._scans:
            raise truncated("JPEG")
        if not self._quantised and self._frame in _COMMON_FRAMES:
            raise damaged("JPEG", "lacks its tables")
        blocks = -(-self._width_px // 8) * -(-self._height_px // 8)
        # Huffman coding spends a bit on every block of at least one channel, which may be halved in one direction.
        if self._frame in _COMMON_FRAMES and self._scan_bytes * 8 < blocks // 2:
            raise truncated("JPEG")
        profile = b"".join(part for _, part in sorted(self._profile_parts.items()))
        return Container(
            format="jpeg",
            width_px=self._width_px,
            height_px=self._height_px,
            clean=self._keep.result(),
            orientation=self._orientation or 1,
            colour=_COLOURS[self._channels],
            profile=profile if 0 < len(profile) <= MAX_PROFILE_BYTES else None,
            passable=self._frame in _COMMON_FRAMES and self._channels != 4,
        )
