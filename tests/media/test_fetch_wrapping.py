"""What comes around a picture is bounded too: hosts that send much and bring little are left early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from app.core.errors import ImageRejected
from app.media.fetch import Fetcher
from tests.media.fetch_lab import PARAM
from tests.media.picture_host import ALLOWED_HOST, PNG

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_PICTURE = PNG + bytes(3_000_000)
_KERNEL_BYTES = 16 << 20  # what the sockets' buffers take of what nobody reads


class _Host:
    """Answers every request with the same bytes; the last of them again and again, as long as they are taken."""

    def __init__(self, once: bytes, for_ever: bytes = b"") -> None:
        self._once = once
        self._for_ever = for_ever
        self.sent_bytes = 0
        self.url = ""
        self.allow = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await self._send(writer, self._once)
            while self._for_ever:
                await self._send(writer, self._for_ever)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent_bytes += len(data)


@asynccontextmanager
async def _fetching(host: _Host) -> AsyncIterator[Fetcher]:
    server = await asyncio.start_server(host.answer, ALLOWED_HOST, 0)
    port = server.sockets[0].getsockname()[1]
    host.url = f"http://{ALLOWED_HOST}:{port}/a"
    allow = [f"{ALLOWED_HOST}/32:{port}"]
    async with server, aclosing(Fetcher(allow=allow, max_bytes=4_000_000, timeout_s=30)) as fetcher:
        yield fetcher


def _chunks(data: bytes, size_bytes: int) -> bytes:
    pieces = (data[at : at + size_bytes] for at in range(0, len(data), size_bytes))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("once", "for_ever"),
    [
        (b"", b"\r\n" * 30_000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000),
        (_CHUNKED + b"5;", b"a" * 65_536),
        (_CHUNKED, b"0" * 65_536),
        (_CHUNKED, (b"1;" + b"x" * 4000 + b"\r\nA\r\n") * 16),
        (_CHUNKED + b"8\r\n" + PNG[:8] + b"\r\n", b"1\r\n\0\r\n" * 10_000),
    ],
    ids=["blank lines", "100", "103", "one extension", "one size", "extensions", "chunks of a byte"],
)
async def test_a_host_that_sends_for_ever_and_brings_nothing_is_left(once: bytes, for_ever: bytes) -> None:
    host = _Host(once, for_ever)
    async with _fetching(host) as fetcher, asyncio.timeout(4):
        with pytest.raises(ImageRejected, match="could not be downloaded") as caught:
            await fetcher.get(host.url, PARAM)
    assert caught.value.code == "image_fetch_failed"
    assert host.sent_bytes < _KERNEL_BYTES


@pytest.mark.parametrize(
    "answer",
    [
        _HEAD + b"Content-Length: %d\r\n\r\n" % len(_PICTURE) + _PICTURE,
        _HEAD + b"\r\n" + _PICTURE,
        _CHUNKED + _chunks(_PICTURE, 65_536),
        _CHUNKED + _chunks(_PICTURE, 128),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20 + _HEAD + b"\r\n" + _PICTURE,
    ],
    ids=["by length", "to the end", "chunks", "small chunks", "after hints"],
)
async def test_a_picture_is_taken_however_it_is_wrapped(answer: bytes) -> None:
    host = _Host(answer)
    async with _fetching(host) as fetcher:
        assert await fetcher.get(host.url, PARAM) == _PICTURE
