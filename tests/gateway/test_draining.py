"""How an answer is ended before its time, at each point where that can come. Of the inside: callers cannot choose when
the process ends, and the moments that matter are single steps of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from app.core.errors import GatewayStopping
from app.core.events import Event, Failure, TextDelta
from app.gateway.draining import Draining

Batches = AsyncGenerator[Sequence[Event], None]
WORD = TextDelta("word")


async def words(*, silent_after: int) -> Batches:
    """So many words, then nothing for ever."""
    for _ in range(silent_after):
        yield [WORD]
    await asyncio.Event().wait()


async def read(draining: Draining, batches: Batches, got: list[Sequence[Event]]) -> None:
    async with draining.answer() as running:
        while (batch := await running.next(batches)) is not None:
            got.append(batch)


async def reading(draining: Draining, batches: Batches, got: list[Sequence[Event]], words: int) -> asyncio.Task[None]:
    """A task that has read so many words and waits for the next."""
    task = asyncio.create_task(read(draining, batches, got))
    while len(got) < words:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return task


async def test_answer_that_has_begun_ends_with_the_reason() -> None:
    draining, got = Draining(), list[Sequence[Event]]()
    task = await reading(draining, words(silent_after=2), got, 2)
    draining.stop()
    await task
    assert got[:2] == [[WORD], [WORD]]
    ((end,),) = got[2:]
    assert isinstance(end, Failure)
    assert isinstance(end.error, GatewayStopping)
    assert task.cancelling() == 0


async def test_answer_that_has_not_begun_fails() -> None:
    draining = Draining()
    task = await reading(draining, words(silent_after=0), [], 0)
    draining.stop()
    with pytest.raises(GatewayStopping):
        await task


async def test_answer_whose_reader_is_slow_ends_when_it_reads_on() -> None:
    draining = Draining()
    async with draining.answer() as running:
        batches = words(silent_after=2)
        assert await running.next(batches) == [WORD]
        draining.stop()
        last = await running.next(batches)
        assert last is not None
        assert isinstance(last[0], Failure)
        assert await running.next(batches) is None


async def test_answer_that_is_whole_is_not_broken_any_more() -> None:
    """Its backend's connection may still be waited for then."""
    draining = Draining()

    async def read_whole() -> Sequence[Event] | None:
        async with draining.answer() as running:
            await running.next(batches)
            running.ended()
            return await running.next(batches)

    batches = words(silent_after=1)
    task = asyncio.create_task(read_whole())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    draining.stop()
    assert await task is None


@pytest.mark.parametrize("first", ["the caller", "the gateway"])
async def test_caller_who_leaves_in_the_same_moment_has_left(first: str) -> None:
    draining, got = Draining(), list[Sequence[Event]]()
    task = await reading(draining, words(silent_after=1), got, 1)
    if first == "the caller":
        task.cancel()
        draining.stop()
    else:
        draining.stop()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert got == [[WORD]]


async def test_nothing_begins_once_time_is_up() -> None:
    draining = Draining()
    draining.stop()
    with pytest.raises(GatewayStopping):
        async with draining.answer():
            pass


async def test_request_is_cancelled_only_until_its_answer_begins() -> None:
    draining = Draining()

    async def request(*, answered: bool) -> None:
        arrived = draining.arrived()
        if answered:
            draining.answering(arrived)
        await hold.wait()

    hold = asyncio.Event()
    waiting, answered = (asyncio.create_task(request(answered=each)) for each in (False, True))
    await asyncio.sleep(0)
    draining.stop()
    hold.set()
    await answered
    with pytest.raises(asyncio.CancelledError):
        await waiting
