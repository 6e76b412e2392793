"""Work done once, however many ask for it at the same time; and blocking work in a bounded number of threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


@dataclass(slots=True)
class _Job(Generic[Result]):
    task: asyncio.Task[Result]
    waiters: int = 0


class Shared(Generic[Result]):
    """Work of one kind, equal work at the same time done once."""

    def __init__(self) -> None:
        self._jobs: dict[Hashable, _Job[Result]] = {}

    async def do(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Does `work`, or waits for the work of the same key that is under way.

        Work that nobody waits for any more is cancelled.

        Raises:
            Exception: what `work` raises.
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(asyncio.create_task(work()))
            job.task.add_done_callback(_look_at_result)
        job.waiters += 1
        try:
            return await asyncio.shield(job.task)
        finally:
            job.waiters -= 1
            if not job.waiters:
                job.task.cancel()
                if self._jobs.get(key) is job:
                    del self._jobs[key]


class Workbench(Generic[Result]):
    """Does blocking work of one kind, equal work at the same time once.

    Args:
        slots: how many threads may work at the same time.
    """

    def __init__(self, slots: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._shared: Shared[Result] = Shared()

    async def do(self, key: Hashable, work: Callable[[], Result]) -> Result:
        """Runs `work` in a thread, or waits for the work of the same key that is under way.

        Work that nobody waits for any more is dropped if it has not begun.

        Raises:
            Exception: what `work` raises.
        """
        return await self._shared.do(key, lambda: self._run(work))

    async def _run(self, work: Callable[[], Result]) -> Result:
        await self._slots.acquire()
        # A thread cannot be stopped: its slot is free when it ends, not when nobody waits for it any more.
        future = asyncio.get_running_loop().run_in_executor(None, work)
        future.add_done_callback(self._free_slot)
        return await asyncio.shield(future)

    def _free_slot(self, future: asyncio.Future[Result]) -> None:
        self._slots.release()
        _look_at_result(future)


def _look_at_result(future: asyncio.Future[Result]) -> None:
    """Keeps asyncio from complaining of an error that nobody waited for."""
    if not future.cancelled():
        future.exception()
