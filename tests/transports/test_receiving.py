"""Connections whose protocol is handed a little at a time, on sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest
from typing_extensions import override

from app.core.errors import BackendProtocolError
from app.core.types import Frame, HttpCall
from app.transports.http import HttpTransport
from app.transports.receiving import SIP_BYTES, sip
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Reply
from tests.fakes.upstream import Upstream

CERTIFICATE = Path(__file__).parents[1] / "media" / "self_signed.pem"
SENT = bytes(range(256)) * 1024
RECORD_BYTES = 700
"""Of each write, and so of TLS; several of them are a sip."""


class Drinker(asyncio.Protocol):
    """Keeps what it is handed, and stops the connection once it holds `full_bytes`."""

    def __init__(self, full_bytes: int) -> None:
        self._full_bytes = full_bytes
        self.pieces: list[bytes] = []
        self.full = asyncio.Event()
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        if sum(map(len, self.pieces)) >= self._full_bytes:
            self.transport.pause_reading()
            self.full.set()

    @override
    def eof_received(self) -> None:
        self.ended.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


Connect = Callable[[Drinker], Awaitable[asyncio.Transport]]


@pytest.fixture(params=["tcp", "tls"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Connects to a server that sends all of `SENT` once it is asked, and closes."""
    served: ssl.SSLContext | None = None
    trust: ssl.SSLContext | None = None
    if request.param == "tls":
        served, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(CERTIFICATE))
        trust.check_hostname = False  # it names nobody's address
        served.load_cert_chain(CERTIFICATE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        for at in range(0, len(SENT), RECORD_BYTES):
            writer.write(SENT[at : at + RECORD_BYTES])
        writer.close()
        await writer.wait_closed()

    async def connected(drinker: Drinker) -> asyncio.Transport:
        loop, port = asyncio.get_running_loop(), server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(lambda: drinker, "127.0.0.1", port, ssl=trust)
        return transport

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=served) as server:
        yield connected


async def test_what_comes_is_handed_over_sip_by_sip_and_whole(connect: Connect) -> None:
    drinker = Drinker(full_bytes=2 * len(SENT))
    transport = await connect(drinker)
    sip(transport)
    transport.write(b"?")
    async with asyncio.timeout(5):
        await drinker.lost.wait()
    assert drinker.ended.is_set()
    assert b"".join(drinker.pieces) == SENT
    assert max(map(len, drinker.pieces)) == SIP_BYTES


async def test_who_has_enough_is_handed_no_more(connect: Connect) -> None:
    drinker = Drinker(full_bytes=3 * SIP_BYTES)
    transport = await connect(drinker)
    sip(transport)
    sip(transport)  # which is already so
    transport.write(b"?")
    async with asyncio.timeout(5):
        await drinker.full.wait()
    assert sum(map(len, drinker.pieces)) < 4 * SIP_BYTES
    drinker.full.clear()
    transport.resume_reading()
    async with asyncio.timeout(5):
        await drinker.full.wait()
    assert sum(map(len, drinker.pieces)) <= 6 * SIP_BYTES  # TLS may have had one more in hand
    transport.abort()


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.aclose()


async def test_connection_is_used_again_after_an_answer_was_sipped(transport: HttpTransport) -> None:
    async with Upstream() as up:
        for _ in range(3):
            up.answer(Reply(200, openai.SSE, [openai.event({"n": number}) for number in range(400)]))
            call = HttpCall("POST", up.url, {}, b"{}")
            async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
                assert sum([len(batch) async for batch in opened.frames()]) == 400
        assert up.connections == 1


async def test_answer_that_nobody_asked_for_is_not_the_next_callers(transport: HttpTransport) -> None:
    def said(word: str) -> bytes:
        body = b'"%b"' % word.encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    over, sent = Gate(), Gate()
    async with Upstream() as up:
        up.answer(Reply(200, {}, [said("first"), over, said("again"), sent], "raw"), openai.reply("second"))
        call = HttpCall("POST", up.url, {}, b"{}")
        for word in ("first", "second"):
            async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
                got: list[Frame] = []
                await _gathered(opened.frames(), got)
            assert [frame.data for frame in got] == [b'"%b"' % word.encode()]
            over.open()
            await sent.reached()
        assert up.connections == 2


@pytest.mark.parametrize("end", [Cut(), Cut(reset=True)], ids=["an end", "a reset"])
async def test_what_came_before_a_connection_broke_is_read_before_the_fault(transport: HttpTransport, end: Cut) -> None:
    sent = [openai.event({"text": f"{number:03} {'word ' * 30}"}) for number in range(5)]
    async with AsyncExitStack() as life:
        async with Upstream() as up:
            up.answer(Reply(200, openai.SSE, [b"".join(sent), end]))
            call = HttpCall("POST", up.url, {}, b"{}")
            opened = await life.enter_async_context(transport.open(call, backend="test-backend", connect_s=5.0))
            frames = opened.frames()
            got = [*await anext(frames)]
        assert len(got) < len(sent)  # of which the others came as well, and the end after them
        with pytest.raises(BackendProtocolError):
            await _gathered(frames, got)
    assert [b"data: %b\n\n" % frame.data for frame in got] == sent


async def test_what_came_slowly_before_a_connection_ended_is_read_before_the_fault(transport: HttpTransport) -> None:
    sent = [openai.event({"text": f"{number:03} {'word ' * 30}"}) for number in range(900)]
    got: list[Frame] = []
    async with Upstream() as up:
        up.answer(Reply(200, openai.SSE, [b"".join(sent), Cut()]))
        call = HttpCall("POST", up.url, {}, b"{}")
        async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
            with pytest.raises(BackendProtocolError):
                await _gathered(opened.frames(), got)
    assert [b"data: %b\n\n" % frame.data for frame in got] == sent


async def _gathered(frames: AsyncIterator[Sequence[Frame]], into: list[Frame]) -> None:
    async for batch in frames:
        into += batch


async def test_event_much_larger_than_a_sip_comes_whole_between_small_ones(transport: HttpTransport) -> None:
    large = "图" * 1_000_000
    sent = [openai.event({"text": text}) for text in ("before", large, "after")]
    got: list[Frame] = []
    async with Upstream() as up:
        up.answer(Reply(200, openai.SSE, [b"".join(sent)]))
        call = HttpCall("POST", up.url, {}, b"{}")
        async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
            await _gathered(opened.frames(), got)
    assert [b"data: %b\n\n" % frame.data for frame in got] == sent


@pytest.mark.parametrize("end", [[], [Cut()]], ids=["held open", "closed"])
async def test_body_that_turns_out_to_be_no_http_is_broken_off_at_once(
    transport: HttpTransport, end: list[Gate | Cut]
) -> None:
    gate, event = Gate(), openai.event("a word")
    head = b"HTTP/1.1 200 Scripted\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n"
    first = b"%x\r\n%b\r\n" % (len(event), event)
    steps = [head + first, gate, b"zz\r\nno chunk\r\n", *(end or [Gate()])]
    async with Upstream() as up, asyncio.timeout(3):
        up.answer(Reply(200, {}, steps, "raw"))
        call = HttpCall("POST", up.url, {}, b"{}")
        async with transport.open(call, backend="test-backend", connect_s=5.0) as opened:
            frames = opened.frames()
            assert [frame.data for frame in await anext(frames)] == [b'"a word"']
            gate.open()
            with pytest.raises(BackendProtocolError, match="broke off its answer") as caught:
                await anext(frames)
            assert caught.value.retryable
