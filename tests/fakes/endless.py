"""An upstream without end, and one without memory, in a process of its own: as fast as whoever asks can take it.

    python -m tests.fakes.endless --port 9000

A request with the model `endless` is answered by a stream that goes on until the caller leaves; `brief` by a few words,
after `delay_ms` where the name says so, as in `brief-500`; `long-N` by N words. Bodies are dropped as they come, so
that pictures cost nothing. A WebSocket at any path gets Spark's frames without end, once its first frame came.

    GET /__admin/open     how many answers are under way, and how many requests came

It knows nothing of the gateway's code.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import re
from typing import cast

import uvloop

from tests.fakes.websocket import text

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MODEL = re.compile(rb'"model":"([a-z]+)(?:-(\d+))?"')
_KEPT_BYTES = 4096
_BATCH = 50


def _chunk(words: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": words}, "finish_reason": finish}
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    data = b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _spark() -> bytes:
    header = {"code": 0, "message": "Success", "sid": "cht000", "status": 1}
    choices = {"status": 1, "seq": 1, "text": [{"content": "word ", "role": "assistant", "index": 0}]}
    return text(json.dumps({"header": header, "payload": {"choices": choices}}))


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
_END = _chunk("end", "stop") + b"%x\r\n%b\r\n" % (len(_USAGE), _USAGE) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_WORDS, _FRAMES = _chunk("word ") * _BATCH, _spark() * _BATCH


class _Counts:
    open = 0
    asked = 0


class _Connection(asyncio.Protocol):
    """One connection; requests on it are answered one after the other."""

    def __init__(self, counts: _Counts) -> None:
        self._counts = counts
        self._transport: asyncio.Transport
        self._head = b""
        self._left_bytes = 0
        self._kept = b""
        self._endless: bytes | None = None
        self._blocked = False
        self._handshaken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._counts.open -= self._endless is not None
        self._endless = None

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._pour()

    def data_received(self, data: bytes) -> None:
        if self._handshaken:
            if self._endless is None:
                self._begin(_FRAMES)
            return
        if not self._left_bytes:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            if b"sec-websocket-key:" in head.lower():
                self._shake(head)
                return
            if head.startswith(b"GET /__admin/open"):
                self._admin()
                return
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            self._left_bytes = int(length[1])  # type: ignore[index] # the gateway always says it
            self._kept = b""
        self._kept += data[: _KEPT_BYTES - len(self._kept)]
        self._left_bytes -= len(data)
        if not self._left_bytes:
            self._answer()

    def _shake(self, head: bytes) -> None:
        key = re.search(rb"sec-websocket-key: *(\S+)", head, re.IGNORECASE)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + _GUID, usedforsecurity=False).digest())
        lines = b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: " + accept
        self._transport.write(b"HTTP/1.1 101 Switching Protocols\r\n" + lines + b"\r\n\r\n")
        self._handshaken = True

    def _admin(self) -> None:
        body = json.dumps({"open": self._counts.open, "asked": self._counts.asked}).encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def _answer(self) -> None:
        self._counts.asked += 1
        said = _MODEL.search(self._kept)
        assert said is not None, self._kept
        number = int(said[2] or 0)
        match said[1]:
            case b"endless":
                self._transport.write(_HEAD)
                self._begin(_WORDS)
            case b"long":
                self._transport.write(_HEAD + _chunk("word ") * number + _END)
            case _:
                loop = asyncio.get_running_loop()
                loop.call_later(number / 1000, self._transport.write, _HEAD + _chunk("word ") + _END)

    def _begin(self, words: bytes) -> None:
        self._endless = words
        self._counts.open += 1
        self._pour()

    def _pour(self) -> None:
        if self._endless is None or self._blocked or self._transport.is_closing():
            return
        self._transport.write(self._endless)
        if not self._blocked:
            asyncio.get_running_loop().call_soon(self._pour)


async def _serve(port: int) -> None:
    counts = _Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(counts), "127.0.0.1", port, backlog=1024)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201 - a command prints
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="An upstream without end.")
    parser.add_argument("--port", type=int, default=9000, help="0 takes any free one")
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
