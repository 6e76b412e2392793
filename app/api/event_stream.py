"""Server-sent events to one caller, with one task beside the request's own.

The library's response runs a group of four: a fifth of what a stream takes that waits for a slow caller, and more CPU
at its start than all else here. On the wire it is the library's. The request's own task writes; another sees the caller
leave and cancels it, at whatever it waits for; heartbeats come from a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from app.api.leaving import gone


class EventStream(EventSourceResponse):
    """The response.

    Args:
        pieces: whole events, encoded; closed at the end, however that comes.
        heartbeat: what is sent every `heartbeat_s`, unless a write is stuck.
        longest_s: bound on all of it, for a caller who does not read.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str],
        heartbeat: ServerSentEvent,
        heartbeat_s: float,
        longest_s: float,
    ) -> None:
        super().__init__(pieces, headers={"cache-control": "no-cache", **headers}, sep="\n")
        del self.headers["connection"]  # the server's to say: it knows whether the caller keeps the connection
        self._pieces = pieces
        self._heartbeat = heartbeat.encode()
        self._heartbeat_s = heartbeat_s
        self._longest_s = longest_s
        self._writer: asyncio.Task[object] | None = None
        self._left = False
        self._stuck = False
        self._timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = self._writer = asyncio.current_task()
        watch = asyncio.create_task(gone(receive))
        watch.add_done_callback(self._leave)
        self._beat_later(send)
        try:
            async with asyncio.timeout(self._longest_s):
                await self._write(send)
        except TimeoutError:
            pass  # a write is stuck: the answer itself would have ended at its deadline
        except asyncio.CancelledError:
            if not self._left or writer is None or writer.uncancel() > 0:
                raise
        finally:
            self._writer = None
            watch.cancel()
            self._end_beats()

    def _leave(self, watch: asyncio.Task[None]) -> None:
        if self._writer is not None and not watch.cancelled():
            self._left = True
            self._writer.cancel()

    async def _write(self, send: Send) -> None:
        await self._send(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await self._send(send, {"type": "http.response.body", "body": piece, "more_body": True})
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            await asyncio.wait([self._beating])  # nothing may follow the end
        await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, message: Message) -> None:
        self._stuck = True
        await send(message)
        self._stuck = False

    def _beat_later(self, send: Send) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._heartbeat_s, self._beat, send)

    def _beat(self, send: Send) -> None:
        if not self._stuck and (self._beating is None or self._beating.done()):
            self._beating = asyncio.ensure_future(_sent(send, self._heartbeat))
        self._beat_later(send)

    def _end_beats(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()


async def _sent(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})
