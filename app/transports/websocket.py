"""WebSocket towards backends: a connection per call, framed by the sans-I/O half of `websockets`, all bounded.

No compression, no proxy, no redirect. One network read is one batch of frames.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import httptools
from typing_extensions import override
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.frames import OK_CLOSE_CODES, Close, Opcode
from websockets.frames import Frame as WsFrame
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import WebSocketURI, parse_uri

from app.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from app.core.types import Frame, WsCall
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
    Words,
    mapped,
)
from app.transports.handshake import HandshakeAnswer
from app.transports.moments import with_wait_in_seconds
from app.transports.wire import Wire

_LEAVING_S = 0.1
_NORMAL_CLOSURE = 1000

_ERRORS: tuple[FaultRow, ...] = (
    (ssl.SSLCertVerificationError, BackendMisconfigured, BAD_CERTIFICATE, False, False),
    (TimeoutError, BackendTimeout, TOO_LATE, True, False),
    (OSError, BackendUnavailable, UNREACHABLE, True, False),
    (UnicodeError, BackendMisconfigured, BAD_ADDRESS, False, False),  # no name can be looked up that long
    (httptools.HttpParserError, BackendProtocolError, NO_ANSWER, True, False),
    (InvalidHandshake, BackendProtocolError, NO_ANSWER, True, False),
)
"""Of the handshake, when nothing was asked yet."""

_CAUGHT = tuple(row[0] for row in _ERRORS)


def _mapped(error: Exception, backend: str) -> BackendError:
    return mapped(error, _ERRORS, backend=backend, detail=f"{type(error).__name__}: {error}")


def _unreachable(backend: str, detail: str, *, spent: bool) -> BackendUnavailable:
    english, chinese = UNREACHABLE
    return BackendUnavailable(english, chinese=chinese, backend=backend, detail=detail, spent=spent)


def _no_answer(
    backend: str, detail: str, words: Words = NO_ANSWER, *, retryable: bool, spent: bool = True
) -> BackendProtocolError:
    english, chinese = words
    return BackendProtocolError(
        english, chinese=chinese, backend=backend, detail=detail, retryable=retryable, spent=spent
    )


class RefusedReply(Reply):
    """A handshake answered by plain HTTP."""

    def __init__(self, wire: Wire, answer: HandshakeAnswer) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = with_wait_in_seconds(dict(answer.headers), time.time())
        self._wire = wire
        self._answer = answer

    @override
    async def body(self) -> bytes:
        answer = self._answer
        try:
            while not answer.whole and len(answer.body) < REFUSAL_BYTES and (data := await self._wire.read()):
                answer.feed(data)
        except _CAUGHT:
            pass  # a refusal cut short is still a refusal; what came is enough
        return bytes(answer.body[:REFUSAL_BYTES])

    @override
    async def frames(self) -> AsyncGenerator[Sequence[Frame], None]:
        none: tuple[Sequence[Frame], ...] = ()
        for batch in none:
            yield batch


class WsReply(Reply):
    """An open WebSocket.

    Args:
        first: what came in the same read as the handshake's end.
    """

    status = 200

    def __init__(
        self,
        wire: Wire,
        protocol: ClientProtocol,
        answer: HandshakeAnswer,
        first: bytes,
        *,
        backend: str,
        max_bytes: int,
    ) -> None:
        self.headers: Mapping[str, str] = dict(answer.headers)
        self._wire = wire
        self._protocol = protocol
        self._first = first
        self._backend = backend
        self._left_bytes = max_bytes - len(first)
        self._begun = False
        self._opcode = Opcode.TEXT
        self._message = bytearray()

    @override
    async def body(self) -> bytes:
        return b""

    @override
    async def frames(self) -> AsyncGenerator[Sequence[Frame], None]:
        data, self._first = self._first or await self._read(), b""
        while data:
            self._protocol.receive_data(data)
            batch, fault = self._taken(self._protocol.events_received())
            _send_due(self._wire, self._protocol)
            if batch:
                self._begun = True
                yield batch
            if fault is not None:
                raise fault
            if self._protocol.close_rcvd is not None:
                self._check_close(self._protocol.close_rcvd)
                return
            self._check_framing(self._protocol.parser_exc)
            data = await self._read()

    async def _read(self) -> bytes:
        try:
            data = await self._wire.read()
        except OSError as error:
            detail = f"{type(error).__name__}: {error}"
            if self._begun:
                raise self._fault(CUT_SHORT, detail, retryable=True) from error
            raise _unreachable(self._backend, detail, spent=True) from error
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise self._fault(NO_ANSWER, "the stream is over the bound", retryable=False)
        return data

    def _taken(self, events: Iterable[object]) -> tuple[list[Frame], BackendError | None]:
        """The messages that these frames complete, and what is wrong with the one after them."""
        batch: list[Frame] = []
        for event in events:
            if not isinstance(event, WsFrame) or event.opcode not in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                continue
            if event.opcode is not Opcode.CONT:
                self._opcode = event.opcode
            self._message += event.data
            if not event.fin:
                continue
            data = bytes(self._message)
            self._message.clear()
            if self._opcode is Opcode.TEXT and not _is_utf8(data):
                return batch, self._fault(NO_ANSWER, "a text message is not UTF-8", retryable=False)
            batch.append(Frame(data))
        return batch, None

    def _check_framing(self, error: Exception | None) -> None:
        if error is not None:
            raise self._fault(NO_ANSWER, f"{type(error).__name__}: {error}", retryable=False) from error

    def _check_close(self, close: Close) -> None:
        if close.code in OK_CLOSE_CODES:
            return
        detail = f"closed: {close}"
        if self._begun:
            raise self._fault(CUT_SHORT, detail, retryable=True)
        raise _unreachable(self._backend, detail, spent=True)

    def _fault(self, words: Words, detail: str, *, retryable: bool) -> BackendProtocolError:
        return _no_answer(self._backend, detail, words, retryable=retryable)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class WsTransport(Transport):
    """Carries `WsCall`s.

    Args:
        max_event_bytes: bound on one message.
        max_body_bytes: bound on all that comes over one connection.
        tls: whom to trust; the system's certificates where `None`.
    """

    queues = False

    def __init__(
        self,
        *,
        max_event_bytes: int = 4 * 1024 * 1024,
        max_body_bytes: int = 32 * 1024 * 1024,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._max_event_bytes = max_event_bytes
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._leaving: dict[Wire, asyncio.TimerHandle] = {}

    @override
    @asynccontextmanager
    async def open(self, call: WsCall, *, backend: str, connect_s: float) -> AsyncIterator[Reply]:
        try:
            address = parse_uri(call.url)
        except (InvalidURI, ValueError):
            # not told which: the address carries a signature
            english, chinese = BAD_ADDRESS
            raise BackendMisconfigured(english, chinese=chinese, backend=backend, detail="invalid address") from None
        wire = await self._connected(address, backend, connect_s)
        protocol = ClientProtocol(address, state=OPEN, max_size=self._max_event_bytes)
        opened = False
        try:
            answer, first = await _shaken(wire, address, call.headers, backend)
            opened = answer.status == 101
            if opened:
                _send(wire, protocol, call.messages)
            del call  # megabytes of pictures, which a long answer must not keep
            if opened:
                yield WsReply(wire, protocol, answer, first, backend=backend, max_bytes=self._max_body_bytes)
            else:
                yield RefusedReply(wire, answer)
        finally:
            self._leave(wire, _goodbye(protocol) if opened else b"")

    async def _connected(self, address: WebSocketURI, backend: str, connect_s: float) -> Wire:
        if self._tls is None and address.secure:
            self._tls = ssl.create_default_context()
        try:
            async with asyncio.timeout(connect_s):
                return await Wire.connected(address.host, address.port, self._tls if address.secure else None)
        except _CAUGHT as error:
            raise _mapped(error, backend) from error

    def _leave(self, wire: Wire, last: bytes) -> None:
        """Closes without waiting, for the backend must know at once that nobody listens any more."""
        wire.close(last)
        self._leaving[wire] = asyncio.get_running_loop().call_later(_LEAVING_S, self._drop, wire)

    def _drop(self, wire: Wire) -> None:
        del self._leaving[wire]
        wire.abort()

    @override
    async def aclose(self) -> None:
        leaving, self._leaving = self._leaving, {}
        for wire, timer in leaving.items():
            timer.cancel()
            wire.abort()
        await asyncio.sleep(0)  # the loop lets go of a socket in its next round


async def _shaken(
    wire: Wire, address: WebSocketURI, headers: Mapping[str, str], backend: str
) -> tuple[HandshakeAnswer, bytes]:
    """The answer to our handshake, either a good 101 or a refusal, and what came behind it."""
    protocol = ClientProtocol(address)
    request = protocol.connect()
    request.headers.update(headers)
    wire.write(request.serialize())
    answer = HandshakeAnswer()
    rest = b""
    try:
        while not answer.told:
            data = await wire.read()
            if not data:
                raise _unreachable(backend, "closed during the handshake", spent=False)
            rest = answer.feed(data)
        if answer.status == 101:
            protocol.process_response(Response(101, "", Headers(answer.headers)))
    except _CAUGHT as error:
        raise _mapped(error, backend) from error
    if answer.status != 101 and answer.status < 400:
        retryable = answer.status < 300  # a page instead of an answer, against a redirect, which we do not follow
        detail = f"handshake answered by {answer.status}"
        raise _no_answer(backend, detail, retryable=retryable, spent=False)  # nothing was asked yet
    return answer, rest


def _send(wire: Wire, protocol: ClientProtocol, messages: Iterable[bytes]) -> None:
    for message in messages:
        protocol.send_text(message)
        _send_due(wire, protocol)


def _send_due(wire: Wire, protocol: ClientProtocol) -> None:
    for data in protocol.data_to_send():
        wire.write(data)


def _goodbye(protocol: ClientProtocol) -> bytes:
    """What is still to be said before leaving."""
    if protocol.state is OPEN:
        protocol.send_close(_NORMAL_CLOSURE)
    return b"".join(protocol.data_to_send())
