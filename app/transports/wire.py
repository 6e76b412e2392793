"""A connection that is read at the pace of who asks, and left without waiting."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from typing_extensions import override

from app.transports.receiving import BATCH_BYTES, Sipping, connected_socket

_HELD_BYTES = BATCH_BYTES
"""What may wait for who asks; then nothing more is taken from the socket."""


class Wire(Sipping):
    """One TCP or TLS connection. What came before an error is read before it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._came: list[bytes] = []
        self._came_bytes = 0
        self._ended = False
        self._error: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None

    @classmethod
    async def connected(cls, host: str, port: int, tls: ssl.SSLContext | None) -> Wire:
        """A new connection.

        Args:
            tls: `None`: none is spoken.

        Raises:
            OSError: it cannot be had; TLS errors are among these.
        """
        wire, loop = cls(), asyncio.get_running_loop()
        connection = await connected_socket(host, port)
        try:
            name = host if tls is not None else None
            await loop.create_connection(lambda: wire, sock=connection, ssl=tls, server_hostname=name)
        except BaseException:
            wire.abort()
            connection.close()
            raise
        return wire

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        self._came.append(data)
        self._came_bytes += len(data)
        if self._came_bytes >= _HELD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    @override
    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._error = exc
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def read(self) -> bytes:
        """What came and was not read yet, up to a batch; empty at the end.

        Raises:
            OSError: the connection broke.
        """
        if not self._came and not self._ended:
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        if self._came:
            data = self._came[0] if len(self._came) == 1 else b"".join(self._came)
            self._came.clear()
            if len(data) > BATCH_BYTES:
                self._came.append(data[BATCH_BYTES:])
                data = data[:BATCH_BYTES]
            self._came_bytes -= len(data)
            if self._transport is not None and self._came_bytes < _HELD_BYTES:
                self._transport.resume_reading()
            return data
        if self._error is not None:
            raise self._error
        return b""

    def write(self, data: bytes) -> None:
        """Sends it as the peer takes it; nothing waits for that."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self, last: bytes = b"") -> None:
        """Sends the last bytes and closes, without waiting. A peer that did not take what was sent before gets no more.

        TLS says goodbye and awaits an answer: who closes calls `abort` in a while.
        """
        transport = self._transport
        if transport is None or transport.get_write_buffer_size():
            self.abort()
            return
        self.write(last)
        transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()
