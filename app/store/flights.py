"""Questions that many ask at the same time, asked once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """Lets those who ask the same share one answer.

    Args:
        joined_within_s: a question that is under way for longer is asked anew: an answer tells what was so when it was
            asked, and nobody is to be told what is older.
    """

    def __init__(self, *, joined_within_s: float = 0.5) -> None:
        self._joined_within_s = joined_within_s
        self._under_way: dict[str, tuple[float, asyncio.Task[T]]] = {}

    async def answer(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to a question. Whoever stops waiting for it takes it from nobody else.

        Args:
            name: of the question; two of the same name mean the same.
            ask: asks it.
        """
        now = asyncio.get_running_loop().time()
        asked_at, task = self._under_way.get(name, (now, None))
        if task is None or now - asked_at > self._joined_within_s:
            task = asyncio.create_task(_asked(ask))
            self._under_way[name] = (now, task)
            task.add_done_callback(lambda done: self._landed(name, done))
        return await asyncio.shield(task)

    def forget(self, name: str) -> None:
        """What a question is about was changed: whoever asks from now on is to be told of that."""
        self._under_way.pop(name, None)

    def _landed(self, name: str, task: asyncio.Task[T]) -> None:
        if name in self._under_way and self._under_way[name][1] is task:
            del self._under_way[name]
        if not task.cancelled():
            task.exception()  # seen, though everybody who asked may have left


async def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    return await ask()
