"""What a walk over a picture file tells, and what it keeps of the file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ContainerFormat: TypeAlias = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "heif", "avif"]
ColourModel: TypeAlias = Literal["grey", "rgb", "palette", "cmyk"]

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Colour profiles over this are ignored; the largest press profiles in use have about 3 MiB."""


class BrokenContainer(Exception):
    """The file is no picture we take.

    Args:
        reason: completes the sentence "The picture …"; safe for callers.
        code: the error code where `invalid_image` is too coarse.
    """

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


def truncated(format_name: str) -> BrokenContainer:
    """The file ends before its format says it does."""
    return BrokenContainer(f"is cut short: its {format_name} data does not reach its end; send the whole file")


def damaged(format_name: str, what: str) -> BrokenContainer:
    """The file breaks its format's rules. `what` completes "its PNG data …"."""
    return BrokenContainer(f"is damaged: its {format_name} data {what}; export it again")


@dataclass(frozen=True, slots=True)
class Container:
    """What the headers of a picture file say; nothing was decoded.

    Args:
        width_px, height_px: as stored, before `orientation` is applied.
        orientation: EXIF's 1..8; 1 is upright.
        transparent: pixels may be transparent.
        bit_depth: per channel.
        profile: the embedded ICC profile, inflated, not judged; `None` where there is none or it is oversized.
        passable: every decoder shows `clean` alike, if the picture is upright, opaque and sRGB.
        clean: the file without metadata and trailing bytes, first frame only; the very object given where nothing
            had to go. A format that never passes is left whole.
    """

    format: ContainerFormat
    width_px: int
    height_px: int
    clean: bytes = field(repr=False)
    orientation: int = 1
    animated: bool = False
    transparent: bool = False
    colour: ColourModel = "rgb"
    bit_depth: int = 8
    profile: bytes | None = field(default=None, repr=False)
    passable: bool = False


class Keep:
    """Collects the spans of a file that stay, in order. Neighbours are joined, so a clean file costs no copy."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pieces: list[tuple[int, int] | bytes] = []

    def span(self, start: int, end: int) -> None:
        """Keeps `data[start:end]`."""
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, tuple) and last[1] == start:
            self._pieces[-1] = (last[0], end)
        else:
            self._pieces.append((start, end))

    def insert(self, piece: bytes) -> None:
        """Puts bytes of ours in."""
        self._pieces.append(piece)

    def result(self) -> bytes:
        """The file that is left; the source object itself where all of it stays."""
        if self._pieces == [(0, len(self._data))]:
            return self._data
        view = memoryview(self._data)
        return b"".join(piece if isinstance(piece, bytes) else view[piece[0] : piece[1]] for piece in self._pieces)


def inflate_bounded(data: bytes | memoryview, limit: int) -> bytes | None:
    """Inflates a zlib stream; `None` where it is broken or gives more than `limit` bytes."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, limit + 1)
    except zlib.error:
        return None
    return plain if stream.eof and len(plain) <= limit else None
