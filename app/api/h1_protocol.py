"""uvicorn's HTTP/1.1 protocol: deaf to offers of HTTP/2 in clear text, with a bound on heads, and errors as ours are.

Java's HttpClient offers `Upgrade: h2c` with its first request. A server may ignore an offer (RFC 9110, section 7.8),
but httptools takes it as accepted and stops before the body. So the offer is struck before the parser sees it.

The parser gathers a head, or the trailers of a chunked body, for as long as it comes: before any key was looked at, one
connection could fill the memory.
"""

from __future__ import annotations

import asyncio
import re
import secrets

import msgspec
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.errors import error_object
from app.core.errors import InvalidRequest

_OFFER = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"
_HEAD_BYTES = 8192
_MAX_HEAD_BYTES = 64 * 1024


class Http1Protocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0
    """Received since a head was whole or a piece of a body came."""
    _receiving_head = False
    _idle_since_s = 0.0

    def has_been_idle(self, span_s: float) -> bool:
        """Whether nothing was asked on it, or answered, for so long."""
        answering = self.cycle is not None and not self.cycle.response_complete
        idle = not (answering or self._receiving_head)
        return idle and self.loop.time() - self._idle_since_s >= span_s

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self._idle_since_s = self.loop.time()
        super().connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        in_body = self.cycle is not None and not self.cycle.response_complete
        if not in_body and b"h2c" in data[:_HEAD_BYTES]:
            head, end, rest = data.partition(_END_OF_HEAD)
            data = _OFFER.sub(b"", head + end[:2]) + end[2:] + rest
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("its head is larger than 64 KiB.")

    @override
    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP request. It never became a request of the app, so what the edge adds stands here."""
        body = msgspec.json.encode(error_object(InvalidRequest(f"The request could not be read: {msg}")))
        lines = [
            b"HTTP/1.1 400 Bad Request",
            b"content-type: application/json",
            b"content-length: %d" % len(body),
            b"access-control-allow-origin: *",
            b"x-request-id: " + secrets.token_hex(12).encode(),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join(lines) + _END_OF_HEAD + body)
        self.transport.close()

    @override
    def on_message_begin(self) -> None:
        self._receiving_head = True
        super().on_message_begin()

    @override
    def on_response_complete(self) -> None:
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    @override
    def on_headers_complete(self) -> None:
        self._receiving_head = False
        self._head_bytes = 0
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)
