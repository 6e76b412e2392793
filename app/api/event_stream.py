"""Server-sent events to one caller, with one task beside the request's own.

sse-starlette's response runs a group of four: a fifth of what a stream takes that waits for a slow caller, and more CPU
at its start than all else here. On the wire it is that response's. The request's own task writes; another sees the
caller leave and cancels it, at whatever it waits for; heartbeats, and the end of patience, come from a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from sse_starlette.event import ServerSentEvent
from starlette.types import Message, Receive, Send

from app.api.leaving import cancelled, gone

_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx passes events on as they come
)


class EventStream:
    """The response.

    Args:
        pieces: whole events, encoded; closed at the end, however that comes.
        first: what `pieces` await first; if they never got to it, it is cancelled.
        heartbeat: what is sent every `heartbeat_s`, unless a write is stuck.
        longest_s: bound on all of it, for a caller who does not read; looked at with each heartbeat.
    """

    __slots__ = (
        "_beating",
        "_ended",
        "_first",
        "_headers",
        "_heartbeat",
        "_heartbeat_s",
        "_longest_s",
        "_loop",
        "_pieces",
        "_send_on",
        "_stuck",
        "_timer",
        "_writer",
    )

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        first: asyncio.Task[Any],
        headers: Mapping[str, str],
        heartbeat: ServerSentEvent,
        heartbeat_s: float,
        longest_s: float,
    ) -> None:
        self._pieces = pieces
        self._first = None if first.done() else first  # done, it holds a result that a long stream must not keep
        self._headers = headers
        self._heartbeat = heartbeat.encode()
        self._heartbeat_s = heartbeat_s
        self._longest_s = longest_s
        self._loop = asyncio.get_running_loop()
        self._ended = False
        self._stuck = False
        self._beating: asyncio.Task[None] | None = None

    async def to(self, receive: Receive, send: Send) -> None:
        """Writes all of it; until the caller leaves, or did not take it in time."""
        self._send_on = send
        writer = self._writer = asyncio.current_task()
        watch = self._loop.create_task(gone(receive))
        watch.add_done_callback(self._leave)
        self._timer = self._loop.call_later(self._heartbeat_s, self._beat, self._loop.time() + self._longest_s)
        try:
            await self._write()
        except asyncio.CancelledError:
            if not self._ended or writer is None or writer.uncancel() > 0:
                raise
        finally:
            self._writer = None
            watch.cancel()
            self._end_beats()
            if self._first is not None and not self._first.done():
                await cancelled(self._first)

    def _leave(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            self._end()

    def _end(self) -> None:
        if self._writer is not None and not self._ended:  # once: it may be booking what the caller left behind
            self._ended = True
            self._writer.cancel()

    async def _write(self) -> None:
        ours = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": [*ours, *_HEADERS]})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        self._timer.cancel()
        if self._beating is not None:
            await asyncio.wait([self._beating])  # nothing may follow the end
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, message: Message) -> None:
        self._stuck = True
        await self._send_on(message)
        self._stuck = False

    def _beat(self, due_s: float) -> None:
        if self._loop.time() >= due_s:
            self._end()  # a write is stuck: the answer itself would have ended at its deadline
            return
        if not self._stuck and (self._beating is None or self._beating.done()):
            self._beating = self._loop.create_task(self._sent_heartbeat())
        self._timer = self._loop.call_later(self._heartbeat_s, self._beat, due_s)

    async def _sent_heartbeat(self) -> None:
        await self._send_on({"type": "http.response.body", "body": self._heartbeat, "more_body": True})

    def _end_beats(self) -> None:
        self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()
