"""Callers who leave while something is done for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


async def unless_gone(
    receive: Receive, work: Coroutine[Any, Any, T], *, wait_s: float | None = None
) -> asyncio.Task[T] | None:
    """Runs `work` until it is done, or for `wait_s`; a caller who leaves meanwhile cancels it.

    Returns:
        The task: done, failed, or after `wait_s` still running; `None` if the caller left.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({task, watch}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if watch.done() and not task.done():
            await cancelled(task)
            return None
    except asyncio.CancelledError:
        await cancelled(task)
        raise
    finally:
        watch.cancel()
    return task


async def gone(receive: Receive) -> None:
    """Returns once the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancels a task and waits for its end, whatever that is."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # read, so that it is not reported as never retrieved
