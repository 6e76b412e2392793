"""Waiting with one timer. Tried by itself: the moments that matter (a caller leaving as time runs out) have no door."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.gateway.patience import Patience


def patience_of(deadline_s: float) -> Patience:
    return Patience(asyncio.get_running_loop().time() + deadline_s)


async def never() -> None:
    await asyncio.Event().wait()


async def test_step_in_time_gives_its_value() -> None:
    patience = patience_of(5)
    patience.extend(5)
    assert await patience.wait(asyncio.sleep(0, "value")) == "value"
    patience.end()


async def test_step_that_takes_too_long_is_ended() -> None:
    patience = patience_of(5)
    patience.extend(0.01)
    with pytest.raises(TimeoutError):
        await patience.wait(never())


async def test_deadline_bounds_every_extension() -> None:
    patience = patience_of(0.01)
    patience.extend(60)
    with pytest.raises(TimeoutError):
        await patience.wait(never())


async def test_extension_moves_the_bound_on() -> None:
    patience = patience_of(5)
    patience.extend(0.02)
    for _ in range(4):
        await patience.wait(asyncio.sleep(0.01))
        patience.extend(0.02)
    patience.end()


async def test_shorter_extension_brings_the_bound_nearer() -> None:
    patience = patience_of(60)
    patience.extend(60)
    patience.extend(0.01)
    with pytest.raises(TimeoutError):
        await patience.wait(never())


async def test_time_in_which_nobody_waits_does_no_harm_until_somebody_does() -> None:
    patience = patience_of(5)
    patience.extend(0.001)
    await asyncio.sleep(0.01)
    assert await patience.wait(_ready()) == "there at once"
    with pytest.raises(TimeoutError):
        await patience.wait(never())
    await asyncio.sleep(0)


async def _ready() -> str:
    return "there at once"


async def test_time_that_ran_out_leaves_the_task_as_it_was() -> None:
    patience = patience_of(5)
    patience.extend(0.001)
    with pytest.raises(TimeoutError):
        await patience.wait(never())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    patience.extend(1)
    assert await patience.wait(asyncio.sleep(0, "again")) == "again"
    patience.end()


async def test_cancellation_from_outside_stays_a_cancellation() -> None:
    patience = patience_of(5)
    patience.extend(5)
    task = asyncio.ensure_future(patience.wait(never()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    patience.end()


async def test_caller_who_leaves_as_time_runs_out_counts_as_left() -> None:
    patience = patience_of(5)
    patience.extend(0.2)
    task = asyncio.ensure_future(patience.wait(never()))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_at(patience._due_s, task.cancel)
    time.sleep(0.25)  # holds the loop until both are due, so that one turn of it runs the timer and the cancellation
    with pytest.raises((asyncio.CancelledError, TimeoutError)) as caught:
        await task
    assert caught.type is asyncio.CancelledError


async def test_steps_may_be_awaited_from_different_tasks() -> None:
    patience = patience_of(5)
    patience.extend(0.05)
    await asyncio.ensure_future(patience.wait(asyncio.sleep(0)))
    with pytest.raises(TimeoutError):
        await asyncio.ensure_future(patience.wait(never()))
