"""The HTTP answer to a WebSocket handshake, as it comes in. Sans I/O, bounded."""

from __future__ import annotations

import httptools

_HEAD_BYTES = 64 * 1024


class HandshakeAnswer:
    """Status, headers, and of a refusal the body."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        """With lower-case names."""
        self.told = False
        """Whether status and headers are known."""
        self.whole = False
        """Whether the body has ended."""
        self.body = bytearray()
        self._came_bytes = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """Takes one network read; gives what follows an answer that changes the protocol.

        Raises:
            httptools.HttpParserError: this is no HTTP, or its head is over the bound.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        self._came_bytes += len(data)
        if not self.told and self._came_bytes > _HEAD_BYTES:
            raise httptools.HttpParserError("the head is over the bound")
        return b""

    def on_message_begin(self) -> None:
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.told = self.status == 101 or self.status >= 200  # others announce an answer

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = self.told
