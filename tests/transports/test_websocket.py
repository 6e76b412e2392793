"""Calls over WebSocket, through a real socket: what is sent, what is read, and how an answer ends."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from app.core.errors import BackendError, BackendProtocolError, BackendUnavailable
from app.core.types import Frame, WsCall
from app.transports.websocket import WsTransport
from tests.fakes.http import Cut, Gate
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply, WsStep, binary, close, fragments, frame, ping, text, together

ASKED = b'{"ask": "\xe5\x9b\xbe"}'


@pytest.fixture
async def transport() -> AsyncIterator[WsTransport]:
    transport = WsTransport(max_event_bytes=4096, max_body_bytes=64 * 1024)
    yield transport
    await transport.aclose()


async def batches_of(transport: WsTransport, up: Upstream, *steps: WsStep, asks: int = 1) -> list[list[bytes]]:
    """The messages by the reads they came in; an error ends them, as `failing` tells."""
    up.answer(WsReply(steps, asks=asks))
    batches: list[list[bytes]] = []
    call = WsCall(up.ws_url + "/v2.1/image?a=b%2B+c", (ASKED,) * asks)
    async with transport.open(call, backend="test-backend", connect_s=5.0) as reply:
        assert reply.status == 200
        async with aclosing(reply.frames()) as frames:
            batches.extend([[frame.data for frame in batch] async for batch in frames])
    return batches


async def broken(transport: WsTransport, *steps: WsStep) -> tuple[list[bytes], BackendError]:
    """The messages that came before the error, and the error."""
    came: list[bytes] = []
    with pytest.raises(BackendError) as caught:  # noqa: PT012 - what came before it matters too
        async with Upstream() as up:
            up.answer(WsReply(steps))
            async with transport.open(WsCall(up.ws_url, (ASKED,)), backend="test-backend", connect_s=5.0) as reply:
                async for batch in reply.frames():
                    came.extend(frame.data for frame in batch)
    assert caught.value.backend == "test-backend"
    return came, caught.value


async def test_what_is_asked_arrives_in_order_and_nothing_besides(transport: WsTransport) -> None:
    async with Upstream() as up:
        up.answer(WsReply([close()], asks=2))
        call = WsCall(up.ws_url + "/v2.1/image?a=b%2B+c", (b"one", ASKED), {"x-extra": "yes"})
        async with transport.open(call, backend="test-backend", connect_s=5.0) as reply:
            assert reply.headers["upgrade"] == "websocket"
            assert await reply.body() == b""
            assert [batch async for batch in reply.frames()] == []
        request = up.requests[0]
        assert request.messages == [b"one", ASKED]
        assert (request.path, request.query) == ("/v2.1/image", "a=b%2B+c")
        assert request.headers["x-extra"] == "yes"
        assert request.headers["host"] == up.ws_url.removeprefix("ws://")
        assert not {"user-agent", "origin", "sec-websocket-extensions"} & request.headers.keys()


async def test_text_binary_and_fragmented_messages_are_frames(transport: WsTransport) -> None:
    async with Upstream() as up:
        split = fragments("你".encode()[:2], "你".encode()[2:] + "好".encode(), "", between=ping(b"alive?"))
        batches = await batches_of(transport, up, "一", binary(b"\xff\x00"), split, "", close())
        assert [message for batch in batches for message in batch] == ["一".encode(), b"\xff\x00", "你好".encode(), b""]
        await up.requests[0].closed()
        assert up.requests[0].pongs == [b"alive?", b"alive?"]


async def test_all_that_one_read_holds_is_one_batch(transport: WsTransport) -> None:
    async with Upstream() as up:
        batches = await batches_of(transport, up, together(*map(str, range(100))), close())
        assert [len(batch) for batch in batches] == [100]


async def test_messages_split_anywhere_mean_the_same(transport: WsTransport) -> None:
    wire = together("你", fragments("好", "吗", between=ping()), "x" * 300) + close()
    async with Upstream() as up:
        pieces = [wire[start : start + 3] for start in range(0, len(wire), 3)]
        batches = await batches_of(transport, up, *pieces)
        assert [message.decode() for batch in batches for message in batch] == ["你", "好吗", "x" * 300]
        assert all(batches)


async def test_messages_that_come_with_the_handshake_are_not_lost(transport: WsTransport) -> None:
    async with Upstream() as up:
        assert await batches_of(transport, up, together("早", "安"), close(), asks=0) == [
            ["早".encode(), "安".encode()]
        ]


@pytest.mark.parametrize(
    "last", [close(1000, "bye"), close(1001), close(None), Cut()], ids=["1000", "1001", "bare", "FIN"]
)
async def test_backend_that_has_ended_just_ends_the_frames(transport: WsTransport, last: WsStep) -> None:
    async with Upstream() as up:
        assert await batches_of(transport, up, "半", last) == [["半".encode()]]


async def test_close_in_mid_message_just_ends_the_frames_too(transport: WsTransport) -> None:
    async with Upstream() as up:
        assert await batches_of(transport, up, "半", frame(1, b"half of", fin=False), close()) == [["半".encode()]]


async def test_close_frame_is_answered_in_kind(transport: WsTransport) -> None:
    async with Upstream() as up:
        await batches_of(transport, up, "好", close(1001))
        await up.requests[0].closed()
        assert up.requests[0].close_codes == [1001]


@pytest.mark.parametrize(
    ("last", "detail"),
    [(Cut(reset=True), "Connection"), (close(1011, "engine"), "closed: 1011 (internal error) engine")],
)
async def test_broken_connection_is_told_by_whether_anything_came(
    transport: WsTransport, last: WsStep, detail: str
) -> None:
    came, error = await broken(transport, last)
    assert (came, type(error), error.retryable) == ([], BackendUnavailable, True)
    assert error.detail.startswith(detail)
    came, error = await broken(transport, "半", last)
    assert (came, type(error), error.retryable) == (["半".encode()], BackendProtocolError, True)
    assert error.detail.startswith(detail)


@pytest.mark.parametrize(
    ("wire", "detail"),
    [
        (frame(1, b"\xff\xfe"), "a text message is not UTF-8"),
        (fragments("你".encode()[:2], b"a"), "a text message is not UTF-8"),
        (b"\x81\x7f" + (8 << 30).to_bytes(8, "big"), "PayloadTooBig"),
        (fragments(*[b"a" * 1000] * 5), "PayloadTooBig"),
        (b"\xc1\x01a", "ProtocolError: reserved bits"),
        (b"\x81\x81aaaaa", "ProtocolError: incorrect masking"),
        (frame(3, b"a"), "ProtocolError: invalid opcode"),
        (frame(0, b"a"), "ProtocolError: unexpected continuation"),
        (frame(1, b"a", fin=False) + text("b"), "ProtocolError: expected a continuation"),
        (close(999), "ProtocolError"),
    ],
)
async def test_what_is_no_good_framing_is_an_error_after_what_came_before(
    transport: WsTransport, wire: bytes, detail: str
) -> None:
    came, error = await broken(transport, together("好", wire), Gate())
    assert came == ["好".encode()]
    assert isinstance(error, BackendProtocolError)
    assert not error.retryable
    assert error.detail.startswith(detail)


async def test_answer_that_never_ends_is_left_at_the_bound(transport: WsTransport) -> None:
    came, error = await broken(transport, *[text("x" * 4000)] * 17, Gate())
    assert len(came) == 16
    assert (error.detail, error.retryable) == ("the stream is over the bound", False)


async def test_pings_count_towards_the_bound_too(transport: WsTransport) -> None:
    came, error = await broken(transport, *[ping(b"x" * 125) * 100] * 6, Gate())
    assert (came, error.detail) == ([], "the stream is over the bound")


async def test_large_request_arrives_whole_and_is_not_kept(transport: WsTransport) -> None:
    gate = Gate()
    message = b'{"picture": "' + b"QUJD" * 1_400_000 + b'"}'
    held = sys.getrefcount(message)
    async with Upstream() as up:
        up.answer(WsReply(["收", gate, "到", close()]))
        opening = transport.open(WsCall(up.ws_url, (message,)), backend="test-backend", connect_s=5.0)
        async with opening as reply, aclosing(reply.frames()) as frames:
            assert await anext(frames) == [Frame("收".encode())]
            assert sys.getrefcount(message) == held
            gate.open()
            assert [batch async for batch in frames] == [[Frame("到".encode())]]
        assert up.requests[0].messages == [message]


async def test_backend_that_answers_before_it_has_read_the_request_is_heard(transport: WsTransport) -> None:
    message = b"x" * 8_000_000
    async with Upstream() as up:
        up.answer(WsReply(["太长", close()], asks=0))
        async with transport.open(WsCall(up.ws_url, (message,)), backend="test-backend", connect_s=5.0) as reply:
            assert [batch async for batch in reply.frames()] == [[Frame("太长".encode())]]


async def test_who_does_not_read_is_not_written_to() -> None:
    """A backend that talks faster than the caller reads is held up by TCP, not gathered in memory."""
    roomy = WsTransport(max_event_bytes=1 << 20, max_body_bytes=1 << 30)
    count, size = 64, 1 << 20
    async with Upstream() as up:
        gate = Gate()
        up.answer(WsReply(["始", *["x" * (size - 1)] * count, gate, close()]))
        opening = roomy.open(WsCall(up.ws_url, (ASKED,)), backend="test-backend", connect_s=5.0)
        async with opening as reply, aclosing(reply.frames()) as frames:
            await anext(frames)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(gate.reached(), 0.3)
            gate.open()
            assert sum([len(batch) async for batch in frames]) == count
    await roomy.aclose()
