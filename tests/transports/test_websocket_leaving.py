"""How a WebSocket is left: with a word where that is possible, and at once in any case."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.types import WsCall
from app.transports.websocket import WsTransport
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply, close

CERTIFICATE = Path(__file__).parents[1] / "media" / "self_signed.pem"
SOON_S = 0.5


@pytest.fixture
async def transport() -> AsyncIterator[WsTransport]:
    trust = ssl.create_default_context(cafile=str(CERTIFICATE))
    trust.check_hostname = False  # it was made out to another name
    transport = WsTransport(tls=trust)
    yield transport
    await transport.aclose()


@pytest.fixture(params=["tcp", "tls"])
async def up(request: pytest.FixtureRequest) -> AsyncIterator[Upstream]:
    context = None
    if request.param == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    async with Upstream(tls=context) as upstream:
        yield upstream


async def test_who_has_enough_says_goodbye_without_waiting(transport: WsTransport, up: Upstream) -> None:
    up.answer(WsReply(["够了"]))
    async with transport.open(WsCall(up.ws_url, (b"{}",)), backend="test-backend", connect_s=5.0) as reply:
        async for _ in reply.frames():
            break
        left = time.perf_counter()
    assert time.perf_counter() - left < 0.05
    await asyncio.wait_for(up.requests[0].closed(), SOON_S)
    assert up.requests[0].close_codes == [1000]


async def test_cancelled_call_is_left_at_once_with_a_word(transport: WsTransport, up: Upstream) -> None:
    gate = Gate()
    up.answer(WsReply(["一", gate]))

    async def listen() -> None:
        async with transport.open(WsCall(up.ws_url, (b"{}",)), backend="test-backend", connect_s=5.0) as reply:
            async for _ in reply.frames():
                pass

    listening = asyncio.create_task(listen())
    await gate.reached()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await asyncio.wait_for(up.requests[0].closed(), SOON_S)
    assert up.requests[0].close_codes == [1000]


async def test_call_left_before_all_is_sent_is_left_at_once(transport: WsTransport, up: Upstream) -> None:
    """What is still to be sent is not waited for, and no word could overtake it."""
    up.answer(WsReply())
    call = WsCall(up.ws_url, (b"x" * 16_000_000,))
    async with transport.open(call, backend="test-backend", connect_s=5.0):
        left = time.perf_counter()
    assert time.perf_counter() - left < 0.05
    await asyncio.wait_for(up.requests[0].closed(), 2)


async def test_transport_that_ends_ends_what_is_still_being_left(up: Upstream) -> None:
    trust = ssl.create_default_context(cafile=str(CERTIFICATE))
    trust.check_hostname = False
    transport = WsTransport(tls=trust)
    up.answer(WsReply([close()]))
    async with transport.open(WsCall(up.ws_url, (b"{}",)), backend="test-backend", connect_s=5.0) as reply:
        assert [batch async for batch in reply.frames()] == []
    await transport.aclose()
    await asyncio.wait_for(up.requests[0].closed(), SOON_S)
