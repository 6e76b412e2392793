"""HTTP written by hand, for what no client would send."""

from __future__ import annotations

import socket
from collections.abc import Mapping

_TIMEOUT_S = 5.0


def exchange(port: int, request: str | bytes, *, timeout_s: float = _TIMEOUT_S) -> tuple[int, Mapping[str, str], bytes]:
    """Sends bytes, reads until the server closes; status (0 where it said nothing), headers and body.

    Raises:
        TimeoutError: it neither answered nor closed.
    """
    raw = request.encode("latin-1") if isinstance(request, str) else request
    pieces: list[bytes] = []
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as line:
        try:
            line.sendall(raw)
            while data := line.recv(65536):
                pieces.append(data)
        except ConnectionError:
            pass  # it did not read all of it; what it said counts
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    return int(words[1]) if len(words) > 1 else 0, headers, body
