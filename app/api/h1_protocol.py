"""uvicorn's HTTP/1.1 protocol: deaf to offers of other protocols, with a bound on heads, on how long requests take to
arrive and answers to be taken, and errors as ours are.

Java's HttpClient offers `Upgrade: h2c` with its first request. A server may ignore an offer (RFC 9110, section 7.8),
but httptools takes it as accepted and stops before the body. So offers are struck before the parser sees them.

A request has one Host (RFC 9112, section 3.2), and trailers are no headers (RFC 9110, section 6.5.1): who stands before
us may have decided by another Host than we see, or by a head without the key that comes behind the body.

The parser gathers a head, or the trailers of a chunked body, for as long as it comes: before any key was looked at, one
connection could fill the memory.

Of an answer that the caller does not take, little is kept: the buffer is small, and full it stops the stream back to
the backend. Who takes none of it for a while is dropped; to the app, the caller left.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from http import HTTPStatus
from typing import Any

import msgspec
from httptools import HttpParserError
from typing_extensions import override
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.api.arrival import PACE, Arrival, Entrance, Pace
from app.api.errors import error_object, status_of
from app.api.language import language_in
from app.core.errors import GatewayError, InvalidRequest, RequestTooSlow

_OFFER = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n)", re.IGNORECASE)
_HOST = re.compile(rb"[^\x00-\x20/?#@\\\x7f]*")  # whatever names a host, and its port
_END_OF_HEAD = b"\r\n\r\n"
_VERSIONS = frozenset({"1.0", "1.1"})
_HEAD_BYTES = 8192
_MAX_HEAD_BYTES = 64 * 1024
_LINE_BYTES = 4  # of a header besides its name and value
_LONG_HEAD = "its head is larger than 64 KiB."
_WRITE_HIGH_BYTES = 1024
_WRITE_LOW_BYTES = 256
_UNSENT_BYTES = 64 * 1024
_AHEAD = 4
"""So many requests may come before the one that is answered is; then nothing more is read."""

_TCP = frozenset({socket.AF_INET, socket.AF_INET6})


class _Flow(FlowControl):
    """uvicorn's, which reads on when it is the connection's turn."""

    def __init__(self, transport: asyncio.Transport, entrance: Entrance, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._entrance = entrance
        self._loop = loop

    def wait_for_turn(self) -> None:
        """Reads nothing until then."""
        self._transport.pause_reading()
        self._entrance.enter(self._read, self._loop)

    @override
    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self._entrance.enter(self._read, self._loop)

    def _read(self) -> None:
        if not self.read_paused and not self._transport.is_closing():
            self._transport.resume_reading()


class Http1Protocol(HttpToolsProtocol):
    """One connection. The app's lifespan says at which pace, as its state `PACE`."""

    # beside uvicorn's own attributes: with these its dictionary would be too large to share its keys, and grow fivefold
    __slots__ = (
        "_arrival",
        "_begun",
        "_drop",
        "_head_bytes",
        "_idle_since_s",
        "_in_body",
        "_pace",
        "_running",
    )

    flow: _Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._pace: Pace = app_state.get(PACE) or Pace()
        self._arrival = Arrival(self._pace.arrival_s, held_up=self._held_up, late=self._too_slow, loop=self.loop)
        self._begun = False
        self._in_body = False  # from the end of a request's head to its own
        self._head_bytes = 0  # received since a head was whole or a piece of a body came
        self._idle_since_s = 0.0
        self._running: RequestResponseCycle | None = None
        self._drop: asyncio.TimerHandle | None = None  # ends the connection, unless the caller takes what was written

    def has_been_idle(self, span_s: float) -> bool:
        """Whether nothing was asked on it, or answered, for so long."""
        answering = self.cycle is not None and not self.cycle.response_complete
        idle = not (answering or self._begun)
        return idle and self.loop.time() - self._idle_since_s >= span_s

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self._idle_since_s = self.loop.time()
        super().connection_made(transport)
        transport.set_write_buffer_limits(_WRITE_HIGH_BYTES, _WRITE_LOW_BYTES)
        _bound_kernel_buffer(transport)
        self._arrival.head()
        self.flow = _Flow(transport, self._pace.entrance, self.loop)
        self.flow.wait_for_turn()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._arrival.end()
        self._keep()
        self._left()
        super().connection_lost(exc)

    @override
    def eof_received(self) -> None:
        """The caller has left, though what was written to it may still wait to be taken."""
        self._left()

    def _left(self) -> None:
        """Has the app learn it: uvicorn tells only the request that came last, which may still wait for its turn."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    @override
    def data_received(self, data: bytes) -> None:
        if not self._in_body and b"\nupgrade:" in data[:_HEAD_BYTES].lower():
            head, end, rest = data.partition(_END_OF_HEAD)
            data = _OFFER.sub(b"", head + end[:2]) + end[2:] + rest
        self._head_bytes += len(data)
        if not self._arrival.awaited:
            self._arrival.head()
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(_LONG_HEAD)
        if self._discards and not self.transport.is_closing():
            self.flow.wait_for_turn()

    @property
    def _discards(self) -> bool:
        """Whether what comes is thrown away: the body of a request that is answered already."""
        return self._begun and self.cycle is not None and self.cycle.more_body and self.cycle.response_complete

    @override
    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP request; once, as the parser tells of an error of ours again."""
        if not self.transport.is_closing():
            self._refuse(InvalidRequest(f"The request could not be read: {msg}"))

    def _refuse(self, error: GatewayError) -> None:
        """Answers what never became a request of the app, so what the edge adds stands here; and closes. Where another
        request is being answered it says nothing: that would be read as a part of the answer, or as the answer."""
        if self._is_owed_an_answer():
            self._close()
            return
        status = status_of(error)
        body = msgspec.json.encode(error_object(error, language_in(self.headers or ())))
        lines = [
            b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode()),
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"access-control-allow-origin: *",
            b"x-request-id: " + secrets.token_hex(12).encode(),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join(lines) + _END_OF_HEAD + body)
        self._close()

    def _is_owed_an_answer(self) -> bool:
        running = self._running
        if running is None or running.response_complete:
            return False
        return running.response_started or not running.more_body

    @override
    def on_message_begin(self) -> None:
        self._begun = True
        self._arrival.head()
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._in_body = True
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise HttpParserError("unknown version")  # which is answered as all that cannot be read
        self._check_size()
        self._check_host(version)
        if version == "1.0":
            self.expect_100_continue = False  # it knows of no interim answers
        self._arrival.body()
        super().on_headers_complete()
        if 0 < len(self.pipeline) < _AHEAD:
            self.flow.resume_reading()  # else nobody would see the caller leave

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @override
    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        self._arrival.grew(len(body))
        super().on_body(body)

    def _check_size(self) -> None:
        """A head that came in one piece was not counted while it grew."""
        lines_bytes = sum(len(name) + len(value) + _LINE_BYTES for name, value in self.headers)
        if len(self.url) + lines_bytes > _MAX_HEAD_BYTES:
            self.send_400_response(_LONG_HEAD)
            raise HttpParserError("long head")

    def _check_host(self, version: str) -> None:
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or version != "1.0"):
            self.send_400_response("send one Host header.")
        elif hosts and not _HOST.fullmatch(hosts[0]):
            self.send_400_response("its Host header names no host.")
        else:
            return
        raise HttpParserError("no sound host")

    @override
    def on_message_complete(self) -> None:
        self._begun = self._in_body = False
        self._arrival.whole()
        super().on_message_complete()

    def _held_up(self) -> bool:
        """Whether it is on us that nothing more of a request has come."""
        if self.flow.read_paused:
            return True
        cycle = self.cycle
        return (
            cycle is not None
            and not cycle.response_complete
            and (cycle.waiting_for_100_continue or not cycle.more_body)
        )

    def _too_slow(self) -> None:
        if self.transport.is_closing():
            return
        cycle = self.cycle
        in_body = self._begun and cycle is not None and cycle.more_body
        if not self._begun or (in_body and cycle.response_started):
            self._close()
            return
        if in_body:  # the app learns that the caller left, and what it says to that is not sent
            cycle.disconnected = True
            cycle.message_event.set()
        self._refuse(
            RequestTooSlow(
                "The request took too long to arrive; send it without pauses.", chinese="请求到达过慢，请不间断地发送。"
            )
        )

    @override
    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing():
            self._drop_later()

    @override
    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._drop_later()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._drop_later()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._keep()

    def _close(self) -> None:
        self.transport.close()
        self._drop_later()

    def _drop_later(self) -> None:
        """Closing waits for what was written to be taken, and so does a stream: neither for ever."""
        if self._drop is None:
            self._drop = self.loop.call_later(self._pace.stall_s, self.transport.abort)

    def _keep(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
            self._drop = None


def _bound_kernel_buffer(transport: asyncio.Transport) -> None:
    """Has the kernel hold little that it could not send yet; else it takes megabytes for a caller who reads nothing.
    What is on its way is not bounded, so long lines keep their rate."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in _TCP and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
