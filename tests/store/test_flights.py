"""Questions that many ask at the same time."""

from __future__ import annotations

import asyncio

import pytest

from app.store.flights import Flights


class Oracle:
    """Answers when it is told to; counts the questions."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()

    async def ask(self) -> int:
        self.asked += 1
        number = self.asked
        await self.may_answer.wait()
        return number


async def under_way(flights: Flights[int], oracle: Oracle, count: int) -> list[asyncio.Task[int]]:
    """So many who have asked the same and wait."""
    tasks = [asyncio.create_task(flights.answer("key", oracle.ask)) for _ in range(count)]
    while not oracle.asked:
        await asyncio.sleep(0)
    return tasks


async def test_those_who_ask_at_the_same_time_share_an_answer() -> None:
    flights, oracle = Flights[int](), Oracle()
    tasks = await under_way(flights, oracle, 5)
    oracle.may_answer.set()
    assert await asyncio.gather(*tasks) == [1] * 5
    assert await flights.answer("key", oracle.ask) == 2, "an answer is for those who waited for it"


async def test_questions_of_different_names_are_different() -> None:
    flights, oracle = Flights[int](), Oracle()
    oracle.may_answer.set()
    assert await asyncio.gather(*(flights.answer(name, oracle.ask) for name in "ab")) == [1, 2]


async def test_old_question_is_not_joined() -> None:
    flights, oracle = Flights[int](joined_within_s=-1.0), Oracle()
    tasks = await under_way(flights, oracle, 2)
    oracle.may_answer.set()
    assert await asyncio.gather(*tasks) == [1, 2]


async def test_whoever_leaves_takes_the_answer_from_nobody() -> None:
    flights, oracle = Flights[int](), Oracle()
    first, second = await under_way(flights, oracle, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    oracle.may_answer.set()
    assert await second == 1


async def test_all_hear_of_a_failure_and_the_next_asks_anew() -> None:
    flights, oracle = Flights[int](), Oracle()

    async def fail() -> int:
        await oracle.may_answer.wait()
        raise LookupError

    tasks = [asyncio.create_task(flights.answer("key", fail)) for _ in range(2)]
    oracle.may_answer.set()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(failure) for failure in failures] == [LookupError, LookupError]
    assert await flights.answer("key", oracle.ask) == 1


async def test_whoever_asks_after_a_change_is_told_of_it() -> None:
    flights, oracle = Flights[int](), Oracle()
    [before] = await under_way(flights, oracle, 1)
    flights.forget("key")
    after = asyncio.create_task(flights.answer("key", oracle.ask))
    while oracle.asked < 2:
        await asyncio.sleep(0)
    oracle.may_answer.set()
    assert await asyncio.gather(before, after) == [1, 2]
    flights.forget("key")
