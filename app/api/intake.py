"""How many bytes of request bodies are held at once: from before a body is read until its answer begins, when its
pictures are let go. A body grows to several times its size on its way: as text, as a picture, as the backend's body.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from types import TracebackType

from app.core.errors import RateLimited
from app.observe.metrics import Reading

FREE_BYTES = 64 * 1024
"""Bodies up to this size always pass, and are not counted."""

_LONGEST_RETRY_S = 5.0
_SMOOTHING = 8
_AT_WORK = 1


class Intake:
    """The room for bodies.

    Args:
        max_bytes: of all bodies that are held.
        now_s: a clock that never goes back.
    """

    def __init__(self, max_bytes: int, *, now_s: Callable[[], float]) -> None:
        self._max_bytes = max_bytes
        self.now_s = now_s
        self._held_bytes = 0
        self._refused = 0
        self._usual_s = 1.0
        self.at_work = asyncio.Semaphore(_AT_WORK)
        """Who puts a large body together, or reads it. A step takes milliseconds in which nothing else of Python runs,
        the event loop neither; so the steps of a crowd must leave it its turns."""

    def place(self) -> Place:
        """A request's place, with nothing in it yet; to be entered, and left when its body is let go."""
        return Place(self)

    def take(self, more_bytes: int) -> None:
        """Takes room.

        Raises:
            RateLimited: there is not as much now.
        """
        if self._held_bytes + more_bytes > self._max_bytes:
            self._refused += 1
            raise self._full()
        self._held_bytes += more_bytes

    def give_back(self, size_bytes: int, held_s: float) -> None:
        """Gives room back that was held for so long."""
        self._held_bytes -= size_bytes
        self._usual_s += (held_s - self._usual_s) / _SMOOTHING

    def _full(self) -> RateLimited:
        """Room is there again once bodies that are held have had their usual time."""
        wait_s = math.ceil(min(max(self._usual_s, 1.0), _LONGEST_RETRY_S))
        return RateLimited(
            f"The gateway holds as many pictures as it has memory for; ask again in {wait_s} s.",
            chinese=f"网关当前处理的图片已达内存上限，请在 {wait_s} 秒后重试。",
            retry_after_s=wait_s,
        )

    def readings(self) -> Iterator[Reading]:
        """What there is, for whoever looks after the gateway."""
        yield Reading("tuwen_intake_bytes", "Bytes of request bodies that are held.", self._held_bytes)
        yield Reading("tuwen_intake_max_bytes", "Bytes of request bodies that may be held.", self._max_bytes)
        yield Reading("tuwen_intake_refused_total", "Requests refused for want of memory.", self._refused)


class Place:
    """What one request holds. A context: however it is left, its room is given back."""

    __slots__ = ("_begun_s", "_bytes", "_intake", "at_work")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.at_work = intake.at_work
        self._bytes = 0
        self._begun_s = 0.0

    def hold(self, size_bytes: int) -> None:
        """The body takes as much in all.

        Raises:
            RateLimited: there is no room for it.
        """
        if size_bytes > max(FREE_BYTES, self._bytes):
            if not self._bytes:
                self._begun_s = self._intake.now_s()
            self._intake.take(size_bytes - self._bytes)
            self._bytes = size_bytes

    def leave(self) -> None:
        """The body is let go; leaving twice is harmless."""
        if self._bytes:
            self._intake.give_back(self._bytes, self._intake.now_s() - self._begun_s)
            self._bytes = 0

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
