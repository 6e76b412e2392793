"""The ends of requests: what is booked, what is given back, whoever books it, and however often."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.accounts.interfaces import LedgerRow
from app.store.engine import Place
from app.store.ledger import settle
from app.store.sql import SqlStore
from tests.store.requests import (
    NEXT_MONTH,
    TODAY,
    TOMORROW,
    add_key,
    ended,
    held,
    noted,
    of_the_day,
    order,
    row_of,
    settled,
    sums,
)


@pytest.fixture(autouse=True)
async def _key(store: SqlStore) -> None:
    await add_key(store, total_micros=1000, day_micros=1000, month_micros=1000)


async def begun(store: SqlStore, *micros: int, request_id: str = "r1", day: str = TODAY) -> LedgerRow:
    """A request for whose attempts money was set aside."""
    for count in range(1, len(micros) + 1):
        assert await store.hold(order(request_id, *micros[:count], day=day)) is None
    return held(request_id, *micros, day=day)


@pytest.mark.parametrize("cost_micros", [0, 1, 29, 30, 31])
async def test_end_books_the_cost_and_gives_back_what_was_set_aside(store: SqlStore, cost_micros: int) -> None:
    row = ended(await begun(store, 30), cost_micros)
    assert await store.settle(row) == row
    assert await sums(store) == (cost_micros, 0)
    assert await of_the_day(store) == (TODAY, cost_micros, cost_micros)
    assert await row_of(store) == row


async def test_end_gives_back_what_was_set_aside_for_all_attempts(store: SqlStore) -> None:
    row = ended(await begun(store, 30, 20, 5), 7)
    await store.settle(row)
    assert await sums(store) == (7, 0)
    assert await row_of(store) == row


async def test_second_end_of_a_request_changes_nothing(store: SqlStore) -> None:
    row = ended(await begun(store, 30), 20)
    await store.settle(row)
    for other in (row, ended(held("r1", 30), 29), ended(held("r1", 30), 0)):
        assert await store.settle(other) == row
    assert await sums(store) == (20, 0)
    assert await row_of(store) == row


async def test_ends_of_one_request_in_one_commit_are_one(store: SqlStore) -> None:
    row = ended(await begun(store, 30), 20)
    assert await asyncio.gather(*(store.settle(each) for each in (row, ended(held("r1", 30), 25), row))) == [row] * 3
    assert await sums(store) == (20, 0)
    assert await of_the_day(store) == (TODAY, 20, 20)


async def test_end_whose_commit_succeeded_unheard_is_booked_once(store: SqlStore) -> None:
    rows = [ended(await begun(store, 30), 20), settled("r2", 3)]
    for _ in range(2):
        assert await store._database.writer.apply(lambda connection: settle(connection, rows)) == rows
    assert await sums(store) == (23, 0)


async def test_end_of_a_request_that_nothing_was_set_aside_for_is_booked(store: SqlStore) -> None:
    row = settled("r1", 9)
    await store.settle(row)
    assert await sums(store) == (9, 0)
    assert await row_of(store) == row
    assert await of_the_day(store) == (TODAY, 9, 9)


async def test_end_on_a_day_that_nothing_was_set_aside_on_begins_it(store: SqlStore) -> None:
    await store.settle(settled("r1", 9, day=TODAY))
    await store.settle(settled("r2", 4, day=TOMORROW))
    assert await of_the_day(store) == (TOMORROW, 4, 13)
    await store.settle(settled("r3", 2, day=NEXT_MONTH))
    assert await of_the_day(store) == (NEXT_MONTH, 2, 2)


async def test_late_end_leaves_the_next_day_alone(store: SqlStore) -> None:
    row = await begun(store, 30, day=TODAY)
    await begun(store, 5, request_id="r2", day=TOMORROW)
    await store.settle(ended(row, 20))
    assert await of_the_day(store) == (TOMORROW, 5, 25)
    assert await sums(store) == (20, 5)


async def test_late_end_leaves_the_next_month_alone(store: SqlStore) -> None:
    row = await begun(store, 30, day=TODAY)
    await begun(store, 5, request_id="r2", day=NEXT_MONTH)
    await store.settle(ended(row, 20))
    assert await of_the_day(store) == (NEXT_MONTH, 5, 5)


async def test_ends_of_several_days_in_one_commit_each_count_on_their_own(store: SqlStore) -> None:
    rows = [settled("r1", 1, day=TODAY), settled("r2", 20, day=TOMORROW), settled("r3", 300, day=TODAY)]
    await asyncio.gather(*map(store.settle, rows))
    assert await of_the_day(store) == (TOMORROW, 20, 321)
    assert await sums(store) == (321, 0)


async def test_end_of_a_key_without_a_balance_is_booked(store: SqlStore) -> None:
    row = settled("r1", 9, key_id="local")
    await store.settle(row)
    assert await row_of(store) == row
    assert await store.balance("local") is None


async def test_request_whose_gateway_died_before_it_asked_anybody_pays_nothing(store: SqlStore) -> None:
    row = await begun(store, 30)
    assert await store.expire(100.0) == 0  # so long is its lease
    assert await store.expire(100.1) == 1
    lost = await row_of(store)
    assert (lost.state, lost.outcome, lost.error_code, lost.cost_micros) == ("expired", "lost", "gateway_lost", 0)
    assert (lost.hold_micros, lost.lease_until, lost.attempts[0].outcome) == (0, None, "lost")
    assert (lost.started_at, lost.model, lost.day) == (row.started_at, row.model, row.day)
    assert await sums(store) == (0, 0)


async def test_request_whose_gateway_died_pays_what_was_noted(store: SqlStore) -> None:
    row = await begun(store, 30)
    await store.note([noted(row, 12)])
    assert await store.expire(100.1) == 1
    lost = await row_of(store)
    assert (lost.state, lost.cost_micros, lost.input_tokens, lost.output_tokens) == ("expired", 12, 70, 7)
    assert lost.attempts[0].cost_micros == 12
    assert await sums(store) == (12, 0)
    assert await of_the_day(store) == (TODAY, 12, 12)


async def test_attempts_that_had_ended_keep_their_outcome_where_the_gateway_died(store: SqlStore) -> None:
    first = replace(held("r1", 30).attempts[0], outcome="failed", error_code="backend_timeout")
    asked = order("r1", 30)
    await store.hold(asked)
    second = order("r1", 30, 5)
    await store.hold(replace(second, row=replace(second.row, attempts=(first, second.row.attempts[1]))))
    await store.expire(100.1)
    assert [attempt.outcome for attempt in (await row_of(store)).attempts] == ["failed", "lost"]


async def test_row_whose_lease_was_pushed_on_stays_open(store: SqlStore) -> None:
    row = await begun(store, 30)
    await store.note([replace(row, lease_until=200.0)])
    assert await store.expire(150.0) == 0
    assert (await row_of(store)).state == "held"
    assert await store.expire(200.1) == 1


async def test_only_open_rows_expire_and_only_once(store: SqlStore) -> None:
    await store.settle(ended(await begun(store, 30), 20))
    await begun(store, 5, request_id="r2")
    assert await asyncio.gather(store.expire(100.1), store.expire(100.1)) == [1, 0]
    assert await store.expire(1e9) == 0
    assert await sums(store) == (20, 0)


async def test_rows_of_many_keys_expire_together(store: SqlStore) -> None:
    """More than are looked at in one go are closed in the next."""
    for number in range(2, 8):
        await add_key(store, number, total_micros=1000)
    orders = [order(f"r{at}", 5, key_id=f"key_{at % 6 + 2}") for at in range(700)]
    await asyncio.gather(*map(store.hold, orders))
    assert [await store.expire(100.1) for _ in range(3)] == [500, 200, 0]
    assert [await sums(store, f"key_{number}") for number in range(2, 8)] == [(0, 0)] * 6


@pytest.mark.parametrize("cost_micros", [0, 12, 25, 80])
async def test_end_that_comes_after_all_puts_an_expired_row_right(store: SqlStore, cost_micros: int) -> None:
    row = await begun(store, 30)
    await store.note([noted(row, 12)])
    await store.expire(100.1)
    late = ended(row, cost_micros)
    assert await store.settle(late) == late
    assert await row_of(store) == late
    assert await sums(store) == (cost_micros, 0)
    assert await of_the_day(store) == (TODAY, cost_micros, cost_micros)
    assert await store.settle(ended(row, 99)) == late
    assert await sums(store) == (cost_micros, 0)


async def test_late_ends_of_an_expired_row_in_one_commit_are_one(store: SqlStore) -> None:
    row = await begun(store, 30)
    await store.note([noted(row, 12)])
    await store.expire(100.1)
    await asyncio.gather(*(store.settle(ended(row, 25)) for _ in range(3)))
    assert await sums(store) == (25, 0)


async def test_late_end_of_a_row_that_expired_on_the_day_before_leaves_the_new_day_alone(store: SqlStore) -> None:
    row = await begun(store, 30, day=TODAY)
    await store.note([noted(row, 12)])
    await store.expire(100.1)
    await begun(store, 5, request_id="r2", day=TOMORROW)
    await store.settle(ended(row, 25))
    assert await of_the_day(store) == (TOMORROW, 5, 30)


async def test_what_is_noted_stands_in_the_row(store: SqlStore) -> None:
    row = await begun(store, 30, 10)
    standing = noted(row, 12, lease_until=300.0, queued_ms=40)
    standing = replace(standing, attempts=(standing.attempts[0], replace(standing.attempts[1], backend_request_id="v")))
    await store.note([standing])
    assert await row_of(store) == standing
    assert await sums(store) == (0, 40)


async def test_many_rows_are_noted_together(store: SqlStore) -> None:
    rows = [await begun(store, 3, request_id=f"r{at}") for at in range(5)]
    before = store.commits
    await store.note([noted(row, at) for at, row in enumerate(rows)])
    assert store.commits == before + 1
    assert sorted(row.cost_micros for row in await store.rows(since=0, limit=10)) == [0, 1, 2, 3, 4]
    await store.note([])
    assert store.commits == before + 1


async def test_note_changes_nothing_of_a_row_that_was_closed(store: SqlStore) -> None:
    over, lost = ended(await begun(store, 30), 20), await begun(store, 30, request_id="r2")
    await store.settle(over)
    await store.expire(100.1)
    expired = await row_of(store, "r2")
    await store.note([noted(held("r1", 30), 12), noted(lost, 12), noted(held("r3", 30), 12)])
    assert [await row_of(store, "r1"), await row_of(store, "r2")] == [over, expired]
    assert len(await store.rows(since=0, limit=10)) == 2
    assert await sums(store) == (20, 0)


async def test_stores_that_end_the_same_rows_at_once_book_them_once(store: SqlStore, place: Place) -> None:
    """As when two processes find the same journal, or sweep at the same time as an end comes."""
    other = await SqlStore.open(place)
    rows = [await begun(store, 3, request_id=f"r{at}") for at in range(60)]
    ends = [each.settle(ended(row, 2)) for row in rows for each in (store, other)]
    await asyncio.gather(other.expire(100.1), *ends, store.expire(100.1))
    assert await sums(store) == (120, 0)
    assert await of_the_day(store) == (TODAY, 120, 120)
    await other.aclose()
