"""From what a caller wrote as a picture to its bytes: a data URL, bare base64, or an http(s) URL."""

from __future__ import annotations

import asyncio
import binascii
import re
from urllib.parse import unquote_to_bytes

import pybase64
from typing_extensions import override

from app.core.errors import ImageRejected
from app.core.types import ImageSource
from app.media.fetch import Fetcher
from app.media.fit import SourceReader
from app.media.magic import is_picture
from app.media.target import INVALID, NOT_ALLOWED

MAX_IMAGE_BYTES = 20_000_000

_OFF_LOOP_CHARS = 256 * 1024
_HEAD_CHARS = 1024
_BLANKS = b" \t\r\n\f\v"
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_USUAL_ESCAPES = tuple(
    (escape, plain)
    for plain, codes in ((b"+", "2B 2b"), (b"/", "2F 2f"), (b"=", "3D 3d"), (b"", "0A 0a 0D 0d 20"))
    for escape in (b"%" + code.encode() for code in codes.split())
)
_MOST_OTHER_ESCAPES = 64 * 1024
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_HOW = "Write `data:image/png;base64,` followed by the base64 of the picture, or an http(s) URL."


class Sources(SourceReader):
    """Reads pictures as callers name them.

    Args:
        fetcher: for http(s) URLs; its bound on size should be `max_bytes` too.
        max_bytes: of one picture; longer base64 is refused before it is decoded.
    """

    def __init__(self, fetcher: Fetcher, *, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        self._fetcher = fetcher
        self._max_bytes = max_bytes

    @override
    async def read(self, source: ImageSource) -> bytes:
        """The bytes of a picture, of whatever format they are.

        Raises:
            ImageRejected: with code `invalid_image_url`, `image_url_not_allowed` or `image_fetch_failed`.
        """
        scheme = _SCHEME.match(source.url[:_HEAD_CHARS])
        match scheme and scheme[1].lower():
            case "http" | "https":
                return await self._fetcher.get(source.url, source.param)
            case "data":
                start = _payload_start(source)
                return await self._decode(source, start, "The data URL does not hold valid base64.")
            case None:
                return await self._bare(source)
            case _:
                raise ImageRejected(
                    f"An image URL must be an http, https or data URL. {_HOW}", param=source.param, code=NOT_ALLOWED
                )

    async def _bare(self, source: ImageSource) -> bytes:
        """Base64 without the `data:` around it; the published examples of several vendors invite it."""
        message = f"The image URL is neither a URL nor the base64 of a picture. {_HOW}"
        try:
            head = pybase64.b64decode(_tidy(source.url[:_HEAD_CHARS].encode("ascii"))[:64], validate=True)
        except ValueError as error:
            raise ImageRejected(message, param=source.param, code=INVALID) from error
        if not is_picture(head):
            raise ImageRejected(message, param=source.param, code=INVALID)
        return await self._decode(source, 0, message)

    async def _decode(self, source: ImageSource, start: int, message: str) -> bytes:
        """Decodes from `start` on; `message` is for when that is no base64."""
        size_chars = len(source.url) - start
        if size_chars > self._max_bytes * 3 // 2:  # base64 takes 4/3; another eighth leaves room for line breaks
            raise self._too_large(source)
        try:
            if size_chars > _OFF_LOOP_CHARS:
                data = await asyncio.to_thread(_base64, source.url, start)
            else:
                data = _base64(source.url, start)
        except ValueError as error:
            raise ImageRejected(message, param=source.param, code=INVALID) from error
        if len(data) > self._max_bytes:
            raise self._too_large(source)
        if not data:
            raise ImageRejected(f"The data URL holds no picture. {_HOW}", param=source.param, code=INVALID)
        return data

    def _too_large(self, source: ImageSource) -> ImageRejected:
        return ImageRejected(f"The picture is larger than {self._max_bytes / 1e6:g} MB.", param=source.param)


def _payload_start(source: ImageSource) -> int:
    """Where the base64 of a data URL begins, once its label was found to be one we read."""
    header, comma, _ = source.url[:_HEAD_CHARS].partition(",")
    if not comma:
        raise ImageRejected(
            f"The data URL has no comma between its type and its data. {_HOW}", param=source.param, code=INVALID
        )
    label, *parameters = (piece.strip().lower() for piece in header.partition(":")[2].split(";"))
    # Clients guess the type, so any picture's label will do; the bytes tell. What is labelled a text is none.
    if label not in {"", "application/octet-stream"} and not label.startswith("image/"):
        raise ImageRejected(
            f"The data URL must be labelled as a picture, image/png for one. {_HOW}", param=source.param, code=INVALID
        )
    if "base64" not in parameters:
        raise ImageRejected(
            f"The data URL must be in base64, not percent-encoded. {_HOW}", param=source.param, code=INVALID
        )
    return len(header) + 1


def _base64(text: str, start: int) -> bytes:
    """Decodes standard base64 at full speed, and what clients make of it on a second try.

    Raises:
        ValueError: it is no base64 in any reading.
    """
    encoded = text[start:].encode("ascii")
    try:
        return pybase64.b64decode(encoded, validate=True)
    except binascii.Error:
        return pybase64.b64decode(_tidy(encoded), validate=True)


def _tidy(encoded: bytes) -> bytes:
    """Standard base64 from one with blanks, percent signs, the URL-safe alphabet, or without padding."""
    if b"%" in encoded:
        encoded = _unescaped(encoded.translate(None, _BLANKS))
    bare = encoded.translate(_FROM_URL_SAFE, _BLANKS).rstrip(b"=")
    return bare + b"=" * (-len(bare) % 4)


def _unescaped(encoded: bytes) -> bytes:
    """Without percent signs. What base64 makes many of is replaced at the speed of a search; each of the others costs
    an object, and millions of them would take a gigabyte and half a minute."""
    for escape, plain in _USUAL_ESCAPES:
        encoded = encoded.replace(escape, plain)
    if encoded.count(b"%") > _MOST_OTHER_ESCAPES:
        raise ValueError("letters written as escapes")
    return unquote_to_bytes(encoded)
