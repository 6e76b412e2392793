"""uvicorn's HTTP/1.1 protocol, deaf to offers of HTTP/2 in clear text.

Java's HttpClient offers `Upgrade: h2c` with its first request. A server may ignore an offer (RFC 9110, section 7.8),
but httptools takes it as accepted and stops before the body. So the offer is struck before the parser sees it.
"""

from __future__ import annotations

import re

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFER = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n)", re.IGNORECASE)
_END_OF_HEAD = b"\r\n\r\n"
_HEAD_BYTES = 8192


class Http1Protocol(HttpToolsProtocol):
    """One connection."""

    @override
    def data_received(self, data: bytes) -> None:
        in_body = self.cycle is not None and not self.cycle.response_complete
        if not in_body and b"h2c" in data[:_HEAD_BYTES]:
            head, end, rest = data.partition(_END_OF_HEAD)
            data = _OFFER.sub(b"", head + end[:2]) + end[2:] + rest
        super().data_received(data)
