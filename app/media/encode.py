"""Writes pixels as a format the backend takes, under its byte bound."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, TypeAlias

import PIL.Image

from app.core.types import ImageFormat, ImageRules
from app.media.containers.model import BrokenContainer

_Options: TypeAlias = dict[str, Any]

_LADDERS: dict[ImageFormat, tuple[_Options, ...]] = {  # what each try gives up more than the last
    "jpeg": tuple({"quality": quality} for quality in (90, 80, 68, 50)),
    "webp": tuple({"quality": quality, "method": 2} for quality in (90, 80, 68, 50)),
    "png": ({"compress_level": 3},),
    "bmp": ({},),
    "gif": ({},),
}
_LOSSLESS = frozenset({"png", "bmp", "gif"})
_MAX_SHRINKS = 6
_SMALLEST_STEP, _LARGEST_STEP = 0.25, 0.9


@dataclass(frozen=True, slots=True)
class Encoded:
    """A written picture. Its size is that of the pixels given, or smaller where the byte bound asked for it."""

    data: bytes = field(repr=False)
    format: ImageFormat
    width_px: int
    height_px: int


def encode(picture: PIL.Image.Image, rules: ImageRules, *, drawn: bool) -> Encoded:
    """Writes mode L or RGB pixels: lower quality first, then fewer pixels, until the bytes are few enough.

    Args:
        drawn: the picture came from a lossless file; colours then keep their full resolution, edges of text stay clean.

    Raises:
        BrokenContainer: even a small and poor picture is over the bound.
    """
    limit = rules.max_image_bytes
    for _ in range(_MAX_SHRINKS):
        smallest = 0
        for format_, options in _tries(rules):
            data = _write(picture, format_, options, drawn=drawn)
            if limit is None or len(data) <= limit:
                return Encoded(data, format_, picture.width, picture.height)
            smallest = min(smallest or len(data), len(data))
            if format_ not in _LOSSLESS and len(data) > 4 * limit:
                break  # lower quality gives a factor of three at most
        step = min(_LARGEST_STEP, max(_SMALLEST_STEP, 0.95 * sqrt((limit or 1) / smallest)))
        size = (max(1, int(picture.width * step)), max(1, int(picture.height * step)))
        picture = picture.resize(size, PIL.Image.Resampling.LANCZOS)
    raise BrokenContainer("cannot be made small enough for this model; send a smaller one", code="image_too_large")


def _tries(rules: ImageRules) -> list[tuple[ImageFormat, _Options]]:
    """The format the backend likes best, then a lossy one it takes too."""
    formats = [rules.formats[0]]
    if formats[0] in _LOSSLESS:
        formats += [format_ for format_ in rules.formats if format_ not in _LOSSLESS][:1]
    return [(format_, options) for format_ in formats for options in _LADDERS[format_]]


def _write(picture: PIL.Image.Image, format_: ImageFormat, options: _Options, *, drawn: bool) -> bytes:
    if format_ == "jpeg" and drawn:
        options = {**options, "subsampling": "4:4:4"}
    buffer = io.BytesIO()
    picture.save(buffer, format_, **options)
    return buffer.getvalue()
