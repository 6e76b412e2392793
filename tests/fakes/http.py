"""The nouns of the scripted upstream: what it was asked, what it answers, and how much HTTP/1.1 that takes."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

Body: TypeAlias = Literal["chunked", "length", "close", "raw"]


class Gate:
    """A point in an answer where the upstream waits until the test opens it. Works across threads.

    Closing every gate that is still shut is the server's business; a test never has to.
    """

    def __init__(self) -> None:
        self._reached: Future[None] = Future()
        self._opened: Future[None] = Future()

    def open(self) -> None:
        """Lets the answer go on; opening twice is harmless."""
        if not self._opened.done():
            self._opened.set_result(None)

    async def reached(self) -> None:
        """Waits until the upstream stands here: all that precedes the gate is written."""
        await asyncio.shield(asyncio.wrap_future(self._reached))

    def wait_reached(self, timeout_s: float = 5.0) -> None:
        """The same for a test without an event loop."""
        self._reached.result(timeout_s)

    async def pass_through(self) -> None:
        if not self._reached.done():
            self._reached.set_result(None)
        await asyncio.shield(asyncio.wrap_future(self._opened))


@dataclass(frozen=True, slots=True)
class Cut:
    """Ends the connection here, in mid-answer.

    Args:
        reset: by RST instead of FIN.
    """

    reset: bool = False


Step: TypeAlias = bytes | Gate | Cut


@dataclass(frozen=True, slots=True)
class Reply:
    """What the upstream answers.

    Args:
        steps: the body in order; each `bytes` is one write, and one chunk where the body is chunked.
        body: how its length is told: `chunked`; `length` (one write); `close` (the connection ends with it); `raw`
            (the steps are the whole answer, status line included).
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    body: Body = "chunked"

    @property
    def wire(self) -> bytes:
        """The body's bytes, joined."""
        return b"".join(step for step in self.steps if isinstance(step, bytes))

    def split(self, size: int) -> Reply:
        """The same answer in writes of `size` bytes; gates and cuts go."""
        wire = self.wire
        steps = [wire[start : start + size] for start in range(0, len(wire), size)]
        return Reply(self.status, self.headers, steps, self.body)

    def until(self, step: Step) -> Reply:
        """The same answer with another step at its end, as a `Cut` or a `Gate`."""
        return Reply(self.status, self.headers, [*self.steps, step], self.body)


@dataclass(frozen=True)
class Received:
    """A request as it arrived.

    Args:
        headers: with lower-case names.
        connection: which connection carried it, counted from 1.
        messages: text messages that came after the handshake, where it asked for a WebSocket.
        pongs: payloads of the pongs that came.
        close_codes: of the close frames that came: one at most, from a client that knows the rules.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    messages: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    close_codes: list[int] = field(default_factory=list)
    _closed: Future[None] = field(default_factory=Future, repr=False)

    @cached_property
    def json(self) -> Any:
        """The body, or the first message, read."""
        return json.loads(self.messages[0] if self.messages else self.body)

    @property
    def wants_websocket(self) -> bool:
        return self.headers.get("upgrade", "").lower() == "websocket"

    @property
    def key(self) -> str | None:
        """What came as `Authorization: Bearer …`."""
        scheme, _, key = self.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" else None

    @property
    def pictures(self) -> list[bytes]:
        """All pictures that came as bytes, decoded, in order."""
        parts = [
            part
            for message in self.json["messages"]
            if isinstance(message.get("content"), list)
            for part in message["content"]
            if part["type"] == "image_url"
        ]
        urls = [part["image_url"] if isinstance(part["image_url"], str) else part["image_url"]["url"] for part in parts]
        encoded = [url.partition(",")[2] if url.startswith("data:") else url for url in urls]
        return [base64.b64decode(text, validate=True) for text in encoded if not text.startswith("http")]

    @property
    def peer_closed(self) -> bool:
        """True once the gateway closed the connection before the answer was over."""
        return self._closed.done()

    async def closed(self) -> None:
        """Waits for that."""
        await asyncio.shield(asyncio.wrap_future(self._closed))

    def wait_closed(self, timeout_s: float = 5.0) -> None:
        """The same for a test without an event loop."""
        self._closed.result(timeout_s)

    def mark_closed(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)


async def read_request(reader: asyncio.StreamReader, first: bytes, connection: int) -> Received | None:
    """Reads one request; `None` where the connection ended instead.

    Args:
        first: bytes of it that were read already.
    """
    try:
        head = first + await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    request_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = request_line.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    path, _, query = target.partition("?")
    try:
        body = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Received(method, path, query, headers, body, connection)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    chunks = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(chunks)


def head_of(reply: Reply) -> bytes:
    """Status line and headers."""
    headers = {"content-type": "application/json", **reply.headers}
    match reply.body:
        case "chunked":
            headers["transfer-encoding"] = "chunked"
        case "length":
            headers["content-length"] = str(len(reply.wire))
        case _:
            headers["connection"] = "close"
    lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def cut(writer: asyncio.StreamWriter) -> None:
    """Makes closing the connection an RST."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
