"""Bounds on waiting, without a timer per wait: a stream waits once per network read, and there a timer is dear.

One timer runs per attempt. Where the bound has moved on by the time it fires, it is set again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


class Patience:
    """How long one attempt is waited for. Its steps may be awaited from different tasks, one at a time.

    Args:
        deadline_s: on the event loop's clock; no step waits longer, however far `extend` goes.
    """

    def __init__(self, deadline_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_s = self._due_s = deadline_s
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0
        self._waiting: asyncio.Task[object] | None = None
        self._expired = False

    def extend(self, span_s: float) -> None:
        """From now on, waits may take `span_s` together."""
        self._due_s = min(self._loop.time() + span_s, self._deadline_s)
        if self._timer is not None and self._timer_s > self._due_s:
            self.end()
        if self._timer is None:
            self._set_timer()

    def end(self) -> None:
        """Nothing is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, step: Awaitable[_T]) -> _T:
        """Awaits one step.

        Raises:
            TimeoutError: the bound was reached.
        """
        task = self._waiting = asyncio.current_task()
        if self._timer is None:  # it fired while nobody waited, because the caller read slowly
            self._set_timer()
        try:
            return await step
        except asyncio.CancelledError:
            if not self._expired or task is None:
                raise
            self._expired = False
            if task.uncancel() > 0:  # the caller left in the same moment, which counts more
                raise
            raise TimeoutError from None
        finally:
            self._waiting = None

    def _set_timer(self) -> None:
        self._timer_s = self._due_s
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() < self._due_s:
            self._set_timer()
        elif self._waiting is not None:
            self._expired = True
            self._waiting.cancel()
