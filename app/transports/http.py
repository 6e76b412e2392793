"""HTTP towards backends, on aiohttp: a pool per backend, nothing followed, nothing inflated, all bounded."""

from __future__ import annotations

import io
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import aiohttp
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from typing_extensions import override
from yarl import URL

from app.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from app.core.types import Frame, HttpCall
from app.transports.auth import PeekableReply, TokenKeeper
from app.transports.base import Reply, Transport
from app.transports.faults import (
    BAD_ADDRESS,
    BAD_CERTIFICATE,
    CUT_SHORT,
    NO_ANSWER,
    REFUSAL_BYTES,
    TOO_LATE,
    UNREACHABLE,
    FaultRow,
    mapped,
)
from app.transports.framing import BYTE_ORDER_MARK, EventTooLarge, SseDecoder
from app.transports.moments import with_wait_in_seconds
from app.transports.receiving import BATCH_BYTES, narrow_socket, sip

_LARGE_BODY_BYTES = 1024 * 1024
_KEEP_ALIVE_S = 15.0
_READ_BYTES = 512  # twice as much waits, and a sip
_SSE_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")
_START_BYTES = 64  # of these some tell events from a document
_PACKED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"})

_ACCEPT = {
    "sse": {"accept": "text/event-stream", "accept-encoding": "identity"},
    "json": {"accept": "application/json", "accept-encoding": "identity"},
}

_ERRORS: tuple[FaultRow, ...] = (
    (aiohttp.ClientConnectorCertificateError, BackendMisconfigured, BAD_CERTIFICATE, False, False),
    (aiohttp.ClientConnectorError, BackendUnavailable, UNREACHABLE, True, False),
    (aiohttp.ClientSSLError, BackendUnavailable, UNREACHABLE, True, False),
    (ssl.SSLError, BackendUnavailable, UNREACHABLE, True, False),
    (aiohttp.ServerTimeoutError, BackendTimeout, TOO_LATE, True, False),  # the connection's: other waits are not its
    (aiohttp.InvalidURL, BackendMisconfigured, BAD_ADDRESS, False, False),
    (aiohttp.ClientPayloadError, BackendProtocolError, CUT_SHORT, True, True),
    (aiohttp.ClientResponseError, BackendProtocolError, NO_ANSWER, True, True),
    (aiohttp.ClientConnectionError, BackendUnavailable, UNREACHABLE, True, True),
    (aiohttp.ClientError, BackendUnavailable, UNREACHABLE, True, True),
    (ConnectionError, BackendUnavailable, UNREACHABLE, True, True),
)  # fmt: skip
_CAUGHT = tuple(row[0] for row in _ERRORS)


def _mapped(error: Exception, backend: str) -> BackendError:
    return mapped(error, _ERRORS, backend=backend, detail=f"{type(error).__name__}: {error}")


def _no_answer(backend: str, detail: str, *, retryable: bool) -> BackendProtocolError:
    english, chinese = NO_ANSWER
    return BackendProtocolError(english, chinese=chinese, backend=backend, detail=detail, retryable=retryable)


def _target(url: str) -> URL:
    """Where a call goes. Escapes are left alone: `%2A` and `*` mean the same, but only one of them was signed."""
    return URL(url, encoded="%" in url and url.isascii())


class _Connections(aiohttp.TCPConnector):
    """The connections to a backend. One on which something came that nobody had asked for is not used again: aiohttp
    would take that for the answer to the next question, which is another caller's."""

    @override
    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


def _take_in_sips(response: aiohttp.ClientResponse) -> None:
    broken_off = partial(_break_off, response.content)
    if response.connection is not None and response.connection.transport is not None:
        sip(response.connection.transport, broken_off)
    else:
        broken_off()


def _break_off(content: aiohttp.StreamReader) -> None:
    """The connection is gone. Of a body that turned out to be no HTTP aiohttp tells nobody who reads it."""
    if not content.is_eof() and content.exception() is None:
        content.set_exception(aiohttp.ClientPayloadError("the body is no HTTP"))


class HttpReply(PeekableReply):
    """One HTTP response, its body not yet read."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        backend: str,
        max_event_bytes: int,
        max_body_bytes: int,
        *,
        cumulative: bool = False,
    ) -> None:
        self.status = response.status
        headers = {name.lower(): value for name, value in response.headers.items()}
        self.headers: Mapping[str, str] = with_wait_in_seconds(headers, time.time())
        self._content = response.content
        self._ahead = b""
        self._backend = backend
        self._max_event_bytes = max_event_bytes
        self._max_body_bytes = max_body_bytes
        self._cumulative = cumulative

    @override
    async def peek(self, max_bytes: int) -> bytes | None:
        if "json" not in self.headers.get("content-type", "").lower():
            return None
        try:
            while len(self._ahead) <= max_bytes:
                data = await self._content.readany()
                if not data:
                    return self._ahead
                self._ahead += data
                if not self._ahead.lstrip().startswith(b"{"):
                    break
        except _CAUGHT:
            pass  # who reads on meets it too
        return None

    async def _read(self) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return ahead or await self._more(BATCH_BYTES)

    async def _more(self, size_bytes: int) -> bytes:
        """Up to as much. Of a body that broke off, first what came before: aiohttp would pass that over, and with it
        words that were said, or even the end of an answer that is whole."""
        content = self._content
        if (fault := content.exception()) is not None:
            content.set_exception(None)  # type: ignore[arg-type] # there is no other way to what it holds
            rest = content.read_nowait()
            content.set_exception(fault)
            if rest:
                return rest
        return await content.read(size_bytes)

    @override
    async def body(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            while size < REFUSAL_BYTES and (data := await self._read()):
                pieces.append(data)
                size += len(data)
        except _CAUGHT:
            pass  # a refusal cut short is still a refusal; what came is enough
        return b"".join(pieces).removeprefix(BYTE_ORDER_MARK)[:REFUSAL_BYTES]

    @override
    async def frames(self) -> AsyncGenerator[Sequence[Frame], None]:
        encodings = self.headers.get("content-encoding", "").lower().split(",")
        if any(encoding.strip() in _PACKED for encoding in encodings):  # some name a charset there, or nothing
            raise self._broken("compressed though we asked for plain", retryable=False)
        decoder = SseDecoder(self._max_event_bytes)
        left_bytes = self._max_body_bytes
        try:
            data, sse = await self._start()
            if not sse:
                yield [Frame(await self._whole(data))]
                return
            while data:
                left_bytes -= len(data)
                if left_bytes < 0 and not self._cumulative:
                    raise self._broken("the stream is over the bound", retryable=False)
                if batch := decoder.feed(data):
                    yield batch
                data = await self._more(max(BATCH_BYTES, decoder.pending_bytes))  # a large event waits for its end
            if batch := decoder.end():
                yield batch
        except _CAUGHT as error:
            raise _mapped(error, self._backend) from error
        except EventTooLarge as error:
            raise self._broken("an event is over the bound", retryable=False) from error

    async def _start(self) -> tuple[bytes, bool]:
        """The first of the body, and whether it is events: as it says, or as it begins, where it comes byte by byte or
        behind a byte order mark too."""
        data = await self._read()
        if self.headers.get("content-type", "").lower().startswith("text/event-stream"):
            return data, True
        while 0 < len(data) < _START_BYTES:
            seen = data.removeprefix(BYTE_ORDER_MARK).lstrip()
            if seen.startswith(_SSE_STARTS):
                return data, True
            undecided = any(start.startswith(seen) for start in (*_SSE_STARTS, BYTE_ORDER_MARK))
            if not undecided or not (more := await self._read()):
                break
            data += more
        data = data.removeprefix(BYTE_ORDER_MARK)
        return data, data.lstrip().startswith(_SSE_STARTS)

    async def _whole(self, first: bytes) -> bytes:
        pieces: list[bytes] = []
        size, data = 0, first
        while data:
            size += len(data)
            if size > self._max_body_bytes:
                raise self._broken("the body is over the bound", retryable=False)
            pieces.append(data)
            data = await self._content.readany()
        body = b"".join(pieces)
        if not body.strip():
            raise self._broken("empty body", retryable=True)
        if body.lstrip().startswith(b"<"):
            raise self._broken("HTML or XML", retryable=True)
        return body

    def _broken(self, detail: str, *, retryable: bool) -> BackendProtocolError:
        return _no_answer(self._backend, detail, retryable=retryable)


class HttpTransport(Transport):
    """Carries `HttpCall`s.

    Args:
        max_event_bytes: bound on one server-sent event.
        max_body_bytes: bound on a whole body, streamed or not.
    """

    queues = False

    def __init__(self, *, max_event_bytes: int = 4 * 1024 * 1024, max_body_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._max_body_bytes = max_body_bytes
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._tokens = TokenKeeper(self._send)

    @override
    def open(self, call: HttpCall, *, backend: str, connect_s: float) -> AbstractAsyncContextManager[Reply]:
        send = self._send if call.token is None else self._tokens.open
        return send(call, backend=backend, connect_s=connect_s)

    @asynccontextmanager
    async def _send(self, call: HttpCall, *, backend: str, connect_s: float) -> AsyncIterator[HttpReply]:
        session = self._session(backend)
        timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s)
        body = io.BytesIO(call.body) if len(call.body) > _LARGE_BODY_BYTES else call.body
        try:
            response = await session.request(
                call.method,
                _target(call.url),
                data=body,
                headers={**_ACCEPT[call.framing], **call.headers},
                allow_redirects=False,
                timeout=timeout,
            )
        except _CAUGHT as error:
            raise _mapped(error, backend) from error
        except ValueError:  # of an address or a header that cannot be sent; not told which: either may hold credentials
            english, chinese = BAD_ADDRESS
            detail = "address or headers cannot be sent"
            raise BackendMisconfigured(english, chinese=chinese, backend=backend, detail=detail) from None
        cumulative = call.cumulative
        del call, body  # megabytes of pictures, which a long answer must not keep
        async with response:
            _take_in_sips(response)
            if 300 <= response.status < 400:
                raise _no_answer(backend, f"redirect {response.status}", retryable=False)
            bounds = (self._max_event_bytes, self._max_body_bytes)
            yield HttpReply(response, backend, *bounds, cumulative=cumulative)

    def _session(self, backend: str) -> aiohttp.ClientSession:
        session = self._sessions.get(backend)
        if session is None:
            session = self._sessions[backend] = aiohttp.ClientSession(
                # limit=0: how many calls a backend takes is the catalogue's to say, not the pool's
                connector=_Connections(limit=0, keepalive_timeout=_KEEP_ALIVE_S, socket_factory=narrow_socket),
                read_bufsize=_READ_BYTES,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent",),
            )
        return session

    @override
    async def aclose(self) -> None:
        await self._tokens.aclose()
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()
