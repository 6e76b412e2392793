"""The scripted upstream's half of a WebSocket. Frames are read and written by hand: it judges a client's framing.

    up.answer(WsReply(['{"a": 1}', gate, '{"b": 2}', close(1000)]))     # the handshake, one message in, then these
    up.answer(WsReply(lambda request: [request.messages[0].decode()]))  # steps made from what came
    up.answer(WsReply([fragments("he", "llo", between=ping(b"?")), together("1", "2"), Cut(reset=True)]))

A `str` is one text message; bytes are written as they are, so a frame may be anything: `text`, `binary`, `ping`,
`close`, `fragments` and `frame` make good ones, `together` makes several messages one write. After the steps the
upstream waits until the client leaves; it answers pings and a close frame as a server must.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.fakes.http import Cut, Gate, Received, Step, cut

WsStep: TypeAlias = str | Step
Steps: TypeAlias = Sequence[WsStep]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class WsReply:
    """A WebSocket conversation.

    Args:
        steps: what is sent, or a callable that makes it from the request once its messages are there.
        asks: text messages to read before the first step. With 0 the handshake leaves in one packet with a step.
        headers: of the handshake's answer, besides and instead of the right ones.
    """

    steps: Steps | Callable[[Received], Steps] = ()
    asks: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)


def frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """One frame of a server."""
    size = len(data)
    if size < 126:
        head = struct.pack("!BB", fin << 7 | opcode, size)
    elif size < 65536:
        head = struct.pack("!BBH", fin << 7 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", fin << 7 | opcode, 127, size)
    return head + data


def text(words: str) -> bytes:
    """One text message in one frame."""
    return frame(TEXT, words.encode())


def binary(data: bytes) -> bytes:
    """One binary message in one frame."""
    return frame(BINARY, data)


def ping(data: bytes = b"") -> bytes:
    """A ping."""
    return frame(PING, data)


def close(code: int | None = 1000, reason: str = "") -> bytes:
    """A close frame; `None`: without a code."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason.encode())


def fragments(*pieces: str | bytes, between: bytes = b"") -> bytes:
    """One text message in as many frames as pieces, with `between` (a ping) after each but the last."""
    datas = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    frames = [
        frame(TEXT if number == 0 else CONTINUATION, data, fin=number == len(datas) - 1)
        for number, data in enumerate(datas)
    ]
    return between.join(frames)


def together(*steps: WsStep) -> bytes:
    """Several messages in one write."""
    return b"".join(text(step) if isinstance(step, str) else step for step in steps if isinstance(step, str | bytes))


class Conversation:
    """One WebSocket, from the handshake on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Received) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer
        self._arrived = asyncio.Event()
        self._closing = False

    async def run(self, reply: WsReply, expect: Callable[[Received], None] | None) -> None:
        """Plays the reply, then waits until the client leaves.

        Raises:
            AssertionError: the client's handshake or framing is wrong, or it left before it said what was asked.
        """
        head = self._head(reply.headers)
        if reply.asks:
            self._writer.write(head)
            head = b""
        listening = asyncio.ensure_future(self._listen())
        playing = asyncio.ensure_future(self._play(reply, expect, head))
        try:
            await asyncio.wait({listening, playing}, return_when=asyncio.FIRST_COMPLETED)
            if playing.done() and playing.result():
                await listening
            elif listening.done():
                listening.result()
        finally:
            listening.cancel()
            playing.cancel()
            await asyncio.gather(listening, playing, return_exceptions=True)

    def _head(self, headers: Mapping[str, str]) -> bytes:
        asked = self.request.headers
        assert self.request.method == "GET", self.request.method
        assert asked["connection"].lower() == "upgrade", asked
        assert asked["sec-websocket-version"] == "13", asked
        key = asked["sec-websocket-key"]
        assert len(base64.b64decode(key, validate=True)) == 16, key
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID.encode(), usedforsecurity=False).digest()).decode()
        answered = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-accept": accept, **headers}
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in answered.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def _play(self, reply: WsReply, expect: Callable[[Received], None] | None, head: bytes) -> bool:
        """Takes the steps; says whether the connection is still there."""
        while len(self.request.messages) < reply.asks:
            self._arrived.clear()
            await self._arrived.wait()
        if expect is not None:
            expect(self.request)
        for step in reply.steps(self.request) if callable(reply.steps) else reply.steps:
            match step:
                case Gate():
                    await self._send(head)
                    await step.pass_through()
                case Cut(reset):
                    await self._send(head)
                    if reset:
                        cut(self._writer)
                    return False
                case str():
                    await self._send(head + text(step))
                case bytes():
                    self._closing = self._closing or (bool(step) and step[0] == 0x80 | CLOSE)
                    await self._send(head + step)
            head = b""
        await self._send(head)
        return True

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # lets each write leave as a packet of its own

    async def _listen(self) -> None:
        """Takes what the client says, until it leaves."""
        try:
            while await self._take_message():
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it left without a word
        finally:
            self.request.mark_closed()

    async def _take_message(self) -> bool:
        opcode, data, fin = await self._frame()
        while not fin:
            following, more, fin = await self._frame()
            assert following == CONTINUATION, following
            data += more
        match opcode:
            case 1:
                data.decode()
                self.request.messages.append(data)
                self._arrived.set()
            case 9:
                await self._send(frame(PONG, data))
            case 10:
                self.request.pongs.append(data)
            case 8:
                self.request.close_codes.append(struct.unpack("!H", data[:2])[0] if data else 1005)
                if not self._closing:
                    await self._send(frame(CLOSE, data[:2]))
                return False
            case _:
                raise AssertionError(f"a client of ours sends text, not frames of kind {opcode}")
        return True

    async def _frame(self) -> tuple[int, bytes, bool]:
        first, second = await self._reader.readexactly(2)
        assert not first & 0x70, "reserved bits are set: no extension was agreed on"
        assert second & 0x80, "a client must mask its frames"
        size = second & 0x7F
        if size > 125:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self._reader.readexactly(4)
        return first & 0xF, _unmasked(await self._reader.readexactly(size), mask), bool(first & 0x80)


def _unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    cover = mask * (size // 4 + 1)
    return (int.from_bytes(data, "big") ^ int.from_bytes(cover[:size], "big")).to_bytes(size, "big")
