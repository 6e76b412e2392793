"""Bodies as they come from servers that do not keep to the rules, over a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from app.core.errors import BackendProtocolError
from app.core.types import HttpCall
from app.transports.http import HttpTransport
from tests.fakes.http import Reply
from tests.fakes.upstream import Upstream

MARK = b"\xef\xbb\xbf"
DOCUMENT = b'{"answer": "a cat"}'
EVENTS = b'data: {"answer": 1}\n\ndata: [DONE]\n\n'
DATA = [b'{"answer": 1}', b"[DONE]"]


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.aclose()


async def read(transport: HttpTransport, reply: Reply) -> list[bytes]:
    """The data of all frames."""
    async with Upstream() as up:
        up.answer(reply)
        call = HttpCall("POST", up.url, {}, b"{}")
        async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
            return [frame.data async for batch in opened.frames() for frame in batch]


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}, {"content-type": "text/event-stream"}])
@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("before", [b"", MARK, b"\n \n", b": ping\n\n"])
async def test_events_are_known_by_how_they_begin(
    transport: HttpTransport, headers: Mapping[str, str], size: int, before: bytes
) -> None:
    assert await read(transport, Reply(200, headers, [before + EVENTS]).split(size)) == DATA


@pytest.mark.parametrize("size", [1, 1000])
async def test_byte_order_mark_is_no_part_of_a_document(transport: HttpTransport, size: int) -> None:
    assert await read(transport, Reply(200, {}, [MARK + DOCUMENT]).split(size)) == [DOCUMENT]


async def test_byte_order_mark_is_no_part_of_a_refusal(transport: HttpTransport) -> None:
    async with Upstream() as up:
        up.answer(Reply(400, {}, [MARK + DOCUMENT], "length"))
        call = HttpCall("POST", up.url, {}, b"{}")
        async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
            assert await opened.body() == DOCUMENT


@pytest.mark.parametrize("encoding", ["", "Identity", "utf-8", "none"])
async def test_encoding_that_packs_nothing_is_read(transport: HttpTransport, encoding: str) -> None:
    assert await read(transport, Reply(200, {"content-encoding": encoding}, [DOCUMENT], "length")) == [DOCUMENT]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "identity, br"])
async def test_packed_body_is_no_answer(transport: HttpTransport, encoding: str) -> None:
    with pytest.raises(BackendProtocolError) as caught:
        await read(transport, Reply(200, {"content-encoding": encoding}, [DOCUMENT], "length"))
    assert caught.value.detail == "compressed though we asked for plain"
