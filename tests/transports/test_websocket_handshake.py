"""Handshakes that do not come to a WebSocket: refused, stalled, unreachable, untrusted."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from app.core.types import WsCall
from app.transports.websocket import WsTransport
from tests.fakes.http import Cut, Gate, Reply
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply, close

CERTIFICATE = Path(__file__).parents[1] / "media" / "self_signed.pem"


@pytest.fixture
async def transport() -> AsyncIterator[WsTransport]:
    transport = WsTransport()
    yield transport
    await transport.aclose()


@pytest.fixture
def served_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture
def deaf() -> Iterator[str]:
    """A place that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def refused(transport: WsTransport, answer: Reply) -> tuple[int, dict[str, str], bytes]:
    async with Upstream() as up:
        up.answer(answer)
        async with transport.open(WsCall(up.ws_url, (b"{}",)), backend="test-backend", connect_s=5.0) as reply:
            assert [batch async for batch in reply.frames()] == []
            result = reply.status, dict(reply.headers), await reply.body()
        assert up.requests[0].messages == []
    return result


async def failing(transport: WsTransport, url: str, connect_s: float = 5.0) -> BackendError:
    with pytest.raises(BackendError) as caught:
        async with transport.open(WsCall(url, (b"{}",)), backend="test-backend", connect_s=connect_s):
            pass
    assert caught.value.backend == "test-backend"
    return caught.value


async def failing_at(transport: WsTransport, answer: Reply | WsReply) -> BackendError:
    async with Upstream() as up:
        up.answer(answer)
        return await failing(transport, up.ws_url)


@pytest.mark.parametrize("length", ["length", "chunked", "close"])
async def test_refusal_comes_with_its_status_headers_and_body(transport: WsTransport, length: str) -> None:
    words = b'{"message": "HMAC signature does not match"}'
    answer = Reply(401, {"Content-Type": "text/plain", "X-Retry": "no"}, [words[:9], words[9:]], length)  # type: ignore[arg-type]  # any of the fake's framings
    status, headers, body = await refused(transport, answer)
    assert (status, body) == (401, words)
    assert (headers["content-type"], headers["x-retry"]) == ("text/plain", "no")


async def test_refusal_in_pieces_after_an_early_hint_is_read_too(transport: WsTransport) -> None:
    wire = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 426 Upgrade Required\r\n"
    wire += b"upgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 3\r\n\r\nno!"
    status, headers, body = await refused(transport, Reply(0, {}, [wire], "raw").split(5))
    assert (status, headers["upgrade"], body) == (426, "websocket", b"no!")
    assert "link" not in headers


@pytest.mark.parametrize("last", [Cut(), Cut(reset=True)], ids=["FIN", "RST"])
async def test_refusal_cut_short_is_still_a_refusal(transport: WsTransport, last: Cut) -> None:
    wire = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 1000\r\n\r\n"
    gate = Gate()
    async with Upstream() as up:
        up.answer(Reply(0, {}, [wire + b"half", gate, last], "raw"))
        async with transport.open(WsCall(up.ws_url, ()), backend="test-backend", connect_s=5.0) as reply:
            gate.open()
            assert (reply.status, await reply.body()) == (403, b"half")


async def test_refusal_whose_body_is_no_http_is_still_a_refusal(transport: WsTransport) -> None:
    wire = b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"
    gate = Gate()
    async with Upstream() as up:
        up.answer(Reply(0, {}, [wire, gate, b"no length\r\n"], "raw"))
        async with transport.open(WsCall(up.ws_url, ()), backend="test-backend", connect_s=5.0) as reply:
            gate.open()
            assert (reply.status, await reply.body()) == (403, b"half")


async def test_refusal_without_an_end_is_read_to_a_bound(transport: WsTransport) -> None:
    status, _, body = await refused(transport, Reply(500, {}, [b"x" * 100_000, Gate()], "close"))
    assert (status, len(body)) == (500, 64 * 1024)


@pytest.mark.parametrize(
    ("answer", "retryable", "detail"),
    [
        (Reply(200, {}, [b"<html>"], "length"), True, "handshake answered by 200"),
        (Reply(302, {"location": "wss://elsewhere.test/"}), False, "handshake answered by 302"),
        (WsReply(asks=0, headers={"sec-websocket-accept": "bm90IG91cnM="}), True, "InvalidHeaderValue"),
        (WsReply(asks=0, headers={"sec-websocket-extensions": "permessage-deflate"}), True, "NegotiationError"),
        (Reply(0, {}, [b"SSH-2.0-OpenSSH_9.7\r\n"], "raw"), True, "HttpParser"),
        (Reply(0, {}, [b"HTTP/1.1 401 No\r\n" + b"x: y\r\n" * 20_000], "raw"), True, "HttpParserError: the head"),
    ],
)
async def test_what_is_neither_a_websocket_nor_a_refusal_is_no_answer(
    transport: WsTransport, answer: Reply | WsReply, retryable: bool, detail: str
) -> None:
    error = await failing_at(transport, answer)
    assert (type(error), error.retryable, error.spent) == (BackendProtocolError, retryable, False)
    assert error.detail.startswith(detail)


@pytest.mark.parametrize("last", [Cut(), Cut(reset=True)], ids=["FIN", "RST"])
async def test_connection_that_ends_in_the_handshake_is_unavailable(transport: WsTransport, last: Cut) -> None:
    error = await failing_at(transport, Reply(0, {}, [b"HTTP/1.1 10", last], "raw"))
    assert type(error) is BackendUnavailable


async def test_nobody_there_is_unavailable(transport: WsTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert type(await failing(transport, f"ws://127.0.0.1:{port}/")) is BackendUnavailable


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/?sign=hush", "ws:///?sign=hush", "ws://h:port/?sign=hush", f"ws://{'a' * 70}/"]
)
async def test_bad_address_is_the_operators_to_mend_and_not_repeated(transport: WsTransport, url: str) -> None:
    error = await failing(transport, url)
    assert type(error) is BackendMisconfigured
    assert "hush" not in str(error) + error.detail


async def test_stalled_tls_is_a_timeout(transport: WsTransport, deaf: str) -> None:
    assert type(await failing(transport, f"wss://{deaf}/", connect_s=0.2)) is BackendTimeout


async def test_stalled_handshake_is_the_callers_clock_to_end(transport: WsTransport, deaf: str) -> None:
    opening = transport.open(WsCall(f"ws://{deaf}/", (b"{}",)), backend="test-backend", connect_s=0.1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(opening.__aenter__(), 0.3)


async def test_stalled_handshake_is_closed_when_its_clock_ran_out(transport: WsTransport) -> None:
    async with Upstream() as up:
        up.answer(Reply(0, {}, [Gate()], "raw"))
        opening = transport.open(WsCall(up.ws_url, (b"{}",)), backend="test-backend", connect_s=5.0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(opening.__aenter__(), 0.3)
        await asyncio.wait_for(up.requests[0].closed(), 1)


async def test_certificate_nobody_vouches_for_is_the_operators_to_mend(
    transport: WsTransport, served_tls: ssl.SSLContext
) -> None:
    async with Upstream(tls=served_tls) as up:
        error = await failing(transport, up.ws_url)
        assert type(error) is BackendMisconfigured
        assert not error.retryable
        assert up.requests == []


async def test_server_without_tls_is_unavailable(transport: WsTransport) -> None:
    async def answer_in_plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer_in_plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert type(await failing(transport, f"wss://127.0.0.1:{port}/")) is BackendUnavailable


async def test_trusted_certificate_carries_the_conversation(served_tls: ssl.SSLContext) -> None:
    trust = ssl.create_default_context(cafile=str(CERTIFICATE))
    trust.check_hostname = False  # it was made out to another name
    transport = WsTransport(tls=trust)
    async with Upstream(tls=served_tls) as up:
        up.answer(WsReply(["好", close()]))
        async with transport.open(WsCall(up.ws_url, (b"x" * 300_000,)), backend="test-backend", connect_s=5.0) as reply:
            assert [[frame.data for frame in batch] async for batch in reply.frames()] == [["好".encode()]]
        assert up.requests[0].messages == [b"x" * 300_000]
    await transport.aclose()
