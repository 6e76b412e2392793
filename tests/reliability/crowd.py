"""Many callers at once, each with a picture of megabytes, from a process of its own.

    python -m tests.reliability.crowd PORT KEY COUNT MODEL

Each opens a connection, and sends and reads at the same time. Written is a JSON list of `[status, retry_after_s,
answered_after_s]`, the time from the connection's opening to the answer's head.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import struct
import sys
import time
import zlib

import uvloop

_SIDE_PX = 1183  # three bytes a pixel, not packed: 4.2 MB
_PICTURES = 20
_PIECE_BYTES = 256 * 1024
_WAIT_S = 120


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def picture(number: int) -> bytes:
    """A PNG of 4.2 MB, unlike those of other numbers."""
    row = b"\0" + random.Random(number).randbytes(3 * _SIDE_PX)
    header = struct.pack("!IIBBBBB", _SIDE_PX, _SIDE_PX, 8, 2, 0, 0, 0)
    data = zlib.compress(row * _SIDE_PX, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _request(key: str, model: str, number: int) -> bytes:
    url = f"data:image/png;base64,{base64.b64encode(picture(number)).decode()}"
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}]
    value = {"model": model, "messages": [{"role": "user", "content": content}]}
    body = json.dumps(value, separators=(",", ":")).encode()
    lines = f"Host: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}"
    return f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n\r\n".encode() + body


async def _ask(port: int, request: bytes) -> tuple[int, int, float]:
    begun_s = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.ensure_future(_send(writer, request))
    try:
        async with asyncio.timeout(_WAIT_S):
            head = await reader.readuntil(b"\r\n\r\n")
        answered_s = time.monotonic() - begun_s
        retry = re.search(rb"retry-after: (\d+)", head)
        return int(head.split()[1]), int(retry[1]) if retry else 0, answered_s
    except (OSError, EOFError, TimeoutError):
        return 0, 0, time.monotonic() - begun_s
    finally:
        sending.cancel()
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, request: bytes) -> None:
    view = memoryview(request)
    for start in range(0, len(request), _PIECE_BYTES):
        writer.write(view[start : start + _PIECE_BYTES])
        await writer.drain()


async def _crowd(port: int, key: str, count: int, model: str) -> None:
    requests = [_request(key, model, number) for number in range(_PICTURES)]
    answers = await asyncio.gather(*[_ask(port, requests[number % _PICTURES]) for number in range(count)])
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    uvloop.run(_crowd(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]))
