"""A caller that costs little: so many connections, each asking anew as soon as it was answered.

    python -m tests.support.blast --port 8000 --key KEY --model m-0-0-5 --connections 32 --seconds 4

Every other connection asks for a stream. Prints one line of JSON: `answers`, `failures`, `seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import cast

import uvloop


@dataclass(slots=True)
class Tally:
    """What came of it."""

    answers: int = 0
    failures: int = 0
    stopping: bool = False


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, *, stream: bool, tally: Tally) -> None:
        self._request = request
        self._stream = stream
        self._tally = tally
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._is_whole():
            return
        if self._received.startswith(b"HTTP/1.1 200"):
            self._tally.answers += 1
        else:
            self._tally.failures += 1
        self._received = b""
        if self._tally.stopping:
            self._transport.close()
        else:
            self._transport.write(self._request)

    def _is_whole(self) -> bool:
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return False
        _, found, length = head.lower().partition(b"content-length: ")
        if found:
            return len(body) >= int(length.partition(b"\r\n")[0])
        return body.endswith(b"0\r\n\r\n")


async def blast(port: int, key: str, model: str, connections: int, seconds: float) -> dict[str, float]:
    """Asks for so long; the figures."""
    tally = Tally()
    loop = asyncio.get_running_loop()
    start_s = time.monotonic()
    for number in range(connections):
        stream = number % 2 == 1
        body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "What is it?"}]})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n"
        request = f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        await loop.create_connection(lambda r=request, s=stream: Caller(r, stream=s, tally=tally), "127.0.0.1", port)  # type: ignore[misc]  # the defaults bind this turn's values
    await asyncio.sleep(seconds)
    figures = {"answers": tally.answers, "failures": tally.failures, "seconds": time.monotonic() - start_s}
    tally.stopping = True
    await asyncio.sleep(0.3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Asks as fast as it is answered.")
    for name, kind in (("port", int), ("key", str), ("model", str), ("connections", int), ("seconds", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    figures = uvloop.run(blast(**vars(parser.parse_args())))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
