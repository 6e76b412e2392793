"""How long requests may take to arrive, and answers to be taken: the pace that callers are held to.

A head must be whole `arrival_s` after its first byte, or after the connection was opened where none came. A body must
grow by `LEAST_BYTES_PER_S` on average over every `arrival_s`, or be whole; so 30 MiB over a slow but honest line pass,
and a byte a second does not. Apache's mod_reqtimeout keeps the same rule. What stops the caller from sending is not
held against it: a read that we paused, an answer still under way, a `100 Continue` not said yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

LEAST_BYTES_PER_S = 8 * 1024
"""64 kbit/s, the slowest line that telephones had."""

_ENTER_AT_ONCE = 4

PACE = "tuwen.pace"
"""Where the app's lifespan leaves the `Pace` for the protocol of its connections."""


class Entrance:
    """Has the event loop read from a few connections per round, of those that have much to say: new ones, and those
    with large bodies. Hundreds at once would else hold it up for as long as all their reads take, and everybody else.

    What waits for its turn is a callable that has one connection read from.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    def enter(self, read: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Calls `read` when it is its turn."""
        self._waiting.append(read)
        if len(self._waiting) == 1:
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(_ENTER_AT_ONCE, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting:
            loop.call_soon(self._next, loop)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a connection may take.

    Args:
        arrival_s: for a head to be whole, and over which a body's growth is looked at.
        stall_s: for bytes of an answer to be taken.
        entrance: of the process.
    """

    arrival_s: float = 60.0
    stall_s: float = 60.0
    entrance: Entrance = field(default_factory=Entrance)


class Arrival:
    """Watches one connection's requests arrive, by one timer, set again when it fires too early.

    Args:
        held_up: whether it is not the caller who keeps the bytes from coming.
        late: called when the time is over; then nothing is watched any more.
    """

    __slots__ = ("_due_s", "_grown_bytes", "_held_up", "_in_body", "_late", "_loop", "_timer", "_within_s")

    def __init__(
        self, within_s: float, *, held_up: Callable[[], bool], late: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._within_s = within_s
        self._held_up = held_up
        self._late = late
        self._loop = loop
        self._due_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._in_body = False
        self._grown_bytes = 0

    @property
    def awaited(self) -> bool:
        """Whether a request is on its way."""
        return self._due_s is not None

    def head(self) -> None:
        """From now on a head must become whole."""
        self._expect(in_body=False)

    def body(self) -> None:
        """The head is whole: from now on the body must grow."""
        self._expect(in_body=True)

    def grew(self, size_bytes: int) -> None:
        """Some of the body came."""
        self._grown_bytes += size_bytes

    def whole(self) -> None:
        """The request is whole."""
        self._due_s = None

    def end(self) -> None:
        """The connection is gone."""
        self._due_s = None
        del self._held_up, self._late  # the connection's own: a circle that only the collector would find
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expect(self, *, in_body: bool) -> None:
        self._in_body = in_body
        self._grown_bytes = 0
        self._due_s = self._loop.time() + self._within_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        if self._loop.time() < self._due_s:
            self._timer = self._loop.call_at(self._due_s, self._look)
        elif self._held_up() or (self._in_body and self._grown_bytes >= LEAST_BYTES_PER_S * self._within_s):
            self._expect(in_body=self._in_body)
        else:
            self._due_s = None
            self._late()
