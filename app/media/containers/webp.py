"""WebP files (RFC 9649): RIFF chunks walked to the end, frame headers read.

What stays: the bitstream, its alpha plane, and of an animation the first frame. All else goes: EXIF, XMP, profiles,
unknown chunks, whatever follows the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from app.media.containers.model import MAX_PROFILE_BYTES, Container, damaged, truncated
from app.media.exif import orientation_of

_MAX_CHUNKS = 100_000
_ALPHA_FLAG, _ANIMATION_FLAG = 0x10, 0x02


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    start: int
    end: int
    """`start` and `end` bound the payload."""


@dataclass(frozen=True, slots=True)
class _Bitstream:
    width_px: int
    height_px: int
    alpha: bool


def walk(data: bytes) -> Container:
    """Reads a WebP to its last chunk.

    Raises:
        BrokenContainer: cut short, or damaged.
    """
    if len(data) < 20:
        raise truncated("WebP")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated("WebP")
    chunks = list(_chunks(data, 12, end))
    match chunks[0].kind if chunks else b"":
        case b"VP8 " | b"VP8L":
            return _simple(data, chunks[0], end)
        case b"VP8X":
            return _extended(data, chunks)
        case _:
            raise damaged("WebP", "has no picture")


def _chunks(data: bytes, at: int, limit: int) -> Iterator[_Chunk]:
    count = 0
    while at < limit:
        count += 1
        if count > _MAX_CHUNKS:
            raise damaged("WebP", "has too many chunks")
        if at + 8 > limit:
            raise truncated("WebP")
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > limit:
            raise truncated("WebP")
        yield _Chunk(data[at : at + 4], at + 8, at + 8 + size)
        at += 8 + size + (size & 1)


def _bitstream(data: bytes, chunk: _Chunk) -> _Bitstream:
    head = data[chunk.start : min(chunk.end, chunk.start + 10)]
    if chunk.kind == b"VP8L":
        if len(head) < 5 or head[0] != 0x2F:
            raise damaged("WebP", "has no sound frame header")
        bits = int.from_bytes(head[1:5], "little")
        return _Bitstream((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    tag = int.from_bytes(head[:3], "little")
    if len(head) < 10 or tag & 1 or head[3:6] != b"\x9d\x01\x2a":
        raise damaged("WebP", "has no sound frame header")
    if (tag >> 5) > chunk.end - chunk.start - 10:
        raise truncated("WebP")
    width, height = struct.unpack_from("<HH", head, 6)
    if not width & 0x3FFF or not height & 0x3FFF:
        raise damaged("WebP", "has no width or no height")
    return _Bitstream(width & 0x3FFF, height & 0x3FFF, alpha=False)


def _riff(*pieces: bytes) -> bytes:
    body = b"WEBP" + b"".join(pieces)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _packed(data: bytes, chunk: _Chunk) -> bytes:
    payload = data[chunk.start : chunk.end]
    return chunk.kind + len(payload).to_bytes(4, "little") + payload + b"\0" * (len(payload) & 1)


def _simple(data: bytes, chunk: _Chunk, end: int) -> Container:
    """A file of one bitstream; chunks after it mean nothing there."""
    stream = _bitstream(data, chunk)
    padded_end = chunk.end + (chunk.end & 1)
    clean = data if padded_end == end == len(data) else _riff(_packed(data, chunk))
    return Container(
        format="webp",
        width_px=stream.width_px,
        height_px=stream.height_px,
        clean=clean,
        transparent=stream.alpha,
        passable=True,
    )


def _extended(data: bytes, chunks: list[_Chunk]) -> Container:
    header = data[chunks[0].start : chunks[0].end]
    if len(header) < 10:
        raise damaged("WebP", "has no sound header")
    width, height = 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little")
    first = {chunk.kind: chunk for chunk in reversed(chunks)}
    exif, profile = first.get(b"EXIF"), first.get(b"ICCP")
    if animated := b"ANMF" in first:
        clean, alpha = _first_frame(data, first[b"ANMF"], width, height), True
    else:
        clean, alpha = _still(data, first, width, height)
    has_profile = profile is not None and 0 < profile.end - profile.start <= MAX_PROFILE_BYTES
    return Container(
        format="webp",
        width_px=width,
        height_px=height,
        clean=clean,
        orientation=orientation_of(data[exif.start : exif.end]) if exif is not None else 1,
        animated=animated,
        transparent=alpha,
        profile=data[profile.start : profile.end] if profile is not None and has_profile else None,
        passable=not animated,
    )


def _canvas(flags: int, width_px: int, height_px: int) -> bytes:
    size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return b"VP8X\x0a\0\0\0" + bytes([flags, 0, 0, 0]) + size


def _still(data: bytes, first: dict[bytes, _Chunk], width_px: int, height_px: int) -> tuple[bytes, bool]:
    """The file with the bitstream and its alpha plane alone, and whether it may be transparent."""
    chunk = first.get(b"VP8 ") or first.get(b"VP8L")
    if chunk is None:
        raise damaged("WebP", "has no picture")
    stream = _bitstream(data, chunk)
    if (stream.width_px, stream.height_px) != (width_px, height_px):
        raise damaged("WebP", "has two sizes")
    plane = first.get(b"ALPH") if chunk.kind == b"VP8 " else None
    if plane is None:
        return _riff(_packed(data, chunk)), stream.alpha
    return _riff(_canvas(_ALPHA_FLAG, width_px, height_px), _packed(data, plane), _packed(data, chunk)), True


def _first_frame(data: bytes, frame: _Chunk, width_px: int, height_px: int) -> bytes:
    """An animation of the first frame alone: a decoder's work is then bounded by the canvas."""
    if frame.end - frame.start < 24:
        raise damaged("WebP", "has no sound frame")
    left, top, width, height = (
        int.from_bytes(data[frame.start + at : frame.start + at + 3], "little") for at in (0, 3, 6, 9)
    )
    inner = {chunk.kind: chunk for chunk in _chunks(data, frame.start + 16, frame.end)}
    chunk = inner.get(b"VP8 ") or inner.get(b"VP8L")
    if chunk is None or left * 2 + width + 1 > width_px or top * 2 + height + 1 > height_px:
        raise damaged("WebP", "has no sound frame")
    stream = _bitstream(data, chunk)
    if (stream.width_px, stream.height_px) != (width + 1, height + 1):
        raise damaged("WebP", "has two sizes")
    controls = b"ANIM\x06\0\0\0" + b"\0" * 6
    return _riff(_canvas(_ALPHA_FLAG | _ANIMATION_FLAG, width_px, height_px), controls, _packed(data, frame))
