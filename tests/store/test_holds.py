"""Money set aside before a backend is asked: the bounds, at their edges, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.accounts.balances import Budget
from app.accounts.interfaces import HoldOrder, HoldRefusal
from app.core.errors import RecordsUnavailable
from app.store.engine import Place
from app.store.ledger import hold
from app.store.sql import SqlStore
from tests.store.requests import (
    KEY_ID,
    NEXT_MONTH,
    TODAY,
    TOMORROW,
    a_key,
    add_key,
    balance_of,
    ended,
    held,
    noted,
    of_the_day,
    order,
    row_of,
    settled,
    sums,
)

SPANS = ("total", "month", "day")


async def holds(store: SqlStore, *orders: HoldOrder) -> list[HoldRefusal | None]:
    """What came of orders that are given at the same time."""
    return list(await asyncio.gather(*map(store.hold, orders)))


async def test_money_is_set_aside_together_with_the_row(store: SqlStore) -> None:
    await add_key(store, total_micros=100)
    assert await store.hold(order("r1", 30)) is None
    assert await sums(store) == (0, 30)
    assert await row_of(store) == held("r1", 30)


@pytest.mark.parametrize("span", SPANS)
async def test_bound_carries_all_of_it_and_not_a_micro_more(store: SqlStore, span: str) -> None:
    await add_key(store, **{f"{span}_micros": 100})
    assert await store.hold(order("first", 60)) is None
    assert await store.hold(order("too-much", 41)) == HoldRefusal(span, 40)  # type: ignore[arg-type] # of a table
    assert await store.hold(order("just-fits", 40)) is None
    assert await store.hold(order("one-micro", 1)) == HoldRefusal(span, 0)  # type: ignore[arg-type] # of a table
    assert await sums(store) == (0, 100)


async def test_refused_request_leaves_no_row(store: SqlStore) -> None:
    await add_key(store, total_micros=10)
    await store.hold(order("r1", 11))
    assert await store.rows(since=0, limit=10) == []
    assert await sums(store) == (0, 0)


async def test_bound_of_nothing_refuses_all_that_is_not_free(store: SqlStore) -> None:
    await add_key(store, total_micros=0)
    assert await store.hold(order("r1", 1)) == HoldRefusal("total", 0)
    assert await store.hold(order("free", 0)) is None


async def test_key_without_bounds_may_set_aside_anything(store: SqlStore) -> None:
    await add_key(store)
    assert await store.hold(order("r1", 10**12)) is None
    assert await of_the_day(store) == (TODAY, 10**12, 10**12)


async def test_of_several_bounds_the_one_that_lasts_longest_is_named(store: SqlStore) -> None:
    await add_key(store, total_micros=5, day_micros=3, month_micros=4)
    assert await store.hold(order("r1", 4)) == HoldRefusal("day", 3)
    assert await store.hold(order("r1", 5)) == HoldRefusal("month", 3)
    assert await store.hold(order("r1", 6)) == HoldRefusal("total", 3)


async def test_what_was_spent_counts_as_what_is_set_aside(store: SqlStore) -> None:
    await add_key(store, total_micros=100, day_micros=100, month_micros=100)
    await store.hold(order("r1", 50))
    await store.settle(settled("r1", 30))
    assert await store.hold(order("r2", 71)) == HoldRefusal("total", 70)
    assert await store.hold(order("r2", 70)) is None


async def test_free_request_is_stored_though_the_balance_is_used_up(store: SqlStore) -> None:
    await add_key(store, total_micros=10, day_micros=10, month_micros=10)
    await store.settle(settled("r1", 25))
    assert await store.hold(order("free", 0)) is None
    assert (await row_of(store, "free")).state == "held"
    assert await store.hold(order("r2", 1)) == HoldRefusal("total", -15)


async def test_of_many_at_once_as_many_are_granted_as_the_bound_carries(store: SqlStore) -> None:
    await add_key(store, total_micros=20 * 7)
    outcomes = await holds(store, *(order(f"r{number}", 7) for number in range(200)))
    assert outcomes.count(None) == 20
    assert await sums(store) == (0, 20 * 7)
    assert len(await store.rows(since=0, limit=1000)) == 20
    assert store.commits <= 5


async def test_of_many_at_once_over_several_stores_as_many_are_granted_as_the_bound_carries(place: Place) -> None:
    stores = [await SqlStore.open(place) for _ in range(4)]
    await add_key(stores[0], day_micros=20 * 7)
    orders = [stores[number % 4].hold(order(f"r{number}", 7)) for number in range(200)]
    assert (await asyncio.gather(*orders)).count(None) == 20
    assert await sums(stores[1]) == (0, 20 * 7)
    for store in stores:
        await store.aclose()


async def test_holds_in_one_commit_see_each_other(store: SqlStore) -> None:
    await add_key(store, total_micros=10)
    assert await holds(store, order("r1", 6), order("r2", 6), order("r3", 4)) == [None, HoldRefusal("total", 0), None]


async def test_keys_in_one_commit_do_not_touch_each_other(store: SqlStore) -> None:
    await add_key(store, 1, total_micros=10)
    await add_key(store, 2, total_micros=20)
    outcomes = await holds(store, *(order(f"r{at}", 10, key_id=f"key_{at % 2 + 1}") for at in range(6)))
    assert outcomes.count(None) == 3
    assert (await sums(store, "key_1"), await sums(store, "key_2")) == ((0, 10), (0, 20))


async def test_key_without_a_balance_has_no_bounds(store: SqlStore) -> None:
    assert await holds(store, order("r1", 5, key_id="local"), order("r2", 6, key_id="local")) == [None, None]
    assert (await balance_of(store, "local")).budget == Budget()
    assert await sums(store, "local") == (0, 11)


async def test_second_attempt_sets_aside_what_it_wants_more(store: SqlStore) -> None:
    await add_key(store, total_micros=50, day_micros=50)
    await store.hold(order("r1", 30))
    assert await store.hold(order("r1", 30, 20)) is None
    assert await sums(store) == (0, 50)
    row = await row_of(store)
    assert (row.hold_micros, len(row.attempts)) == (50, 2)


async def test_second_attempt_that_is_refused_leaves_the_row_as_it_stood(store: SqlStore) -> None:
    await add_key(store, total_micros=49)
    await store.hold(order("r1", 30))
    assert await store.hold(order("r1", 30, 20)) == HoldRefusal("total", 19)
    assert await sums(store) == (0, 30)
    assert await row_of(store) == held("r1", 30)


async def test_second_attempt_that_wants_no_more_is_stored_though_nothing_is_left(store: SqlStore) -> None:
    await add_key(store, total_micros=30)
    await store.hold(order("r1", 30))
    assert await store.hold(order("r1", 30, 0)) is None
    assert await sums(store) == (0, 30)
    assert len((await row_of(store)).attempts) == 2


async def test_request_whose_row_was_closed_meanwhile_gets_nothing_more(store: SqlStore) -> None:
    """Its gateway was not heard of for so long that another closed its row; a second attempt must not open it again."""
    await add_key(store, total_micros=100)
    await store.hold(order("r1", 30, lease_until=100.0))
    await store.note([noted(held("r1", 30, lease_until=100.0), 10)])
    await store.expire(100.1)
    for micros in (20, 0):
        with pytest.raises(RecordsUnavailable):
            await store.hold(order("r1", 30, micros))
    assert await sums(store) == (10, 0)
    assert (await row_of(store)).state == "expired"
    await store.settle(ended(held("r1", 30), 12))
    assert await sums(store) == (12, 0)


async def test_hold_whose_commit_succeeded_unheard_sets_money_aside_once(store: SqlStore, place: Place) -> None:
    await add_key(store, total_micros=100)
    orders = [order("r1", 30), order("r2", 0), order("r3", 80)]
    for _ in range(2):
        assert await in_one_commit(store, orders) == [None, None, HoldRefusal("total", 70)]
        assert await sums(store) == (0, 30)
    assert await row_of(store) == held("r1", 30)


async def test_hold_and_end_in_a_commit_that_succeeded_unheard_are_booked_once(store: SqlStore) -> None:
    """A caller who leaves at once may have both in one commit; the hold must not open the row again."""
    await add_key(store, total_micros=100)
    await store.hold(order("r1", 30))
    await store.settle(settled("r1", 20))
    [outcome] = await in_one_commit(store, [order("r1", 30)])
    assert isinstance(outcome, RecordsUnavailable)
    assert await sums(store) == (20, 0)
    assert (await row_of(store)).state == "settled"


async def in_one_commit(store: SqlStore, orders: list[HoldOrder]) -> list[object]:
    """What the writer does with orders, so that it can be done twice."""
    return await store._database.writer.apply(lambda connection: list(hold(connection, orders)))


async def test_new_day_begins_with_nothing_spent_and_the_month_goes_on(store: SqlStore) -> None:
    await add_key(store, day_micros=100, month_micros=150)
    await store.hold(order("r1", 100, day=TODAY))
    assert await store.hold(order("r2", 51, day=TOMORROW)) == HoldRefusal("month", 50)
    assert await store.hold(order("r2", 50, day=TOMORROW)) is None
    assert await of_the_day(store) == (TOMORROW, 50, 150)


async def test_new_month_begins_with_nothing_spent(store: SqlStore) -> None:
    await add_key(store, day_micros=100, month_micros=100)
    await store.hold(order("r1", 100, day=TODAY))
    assert await store.hold(order("r2", 100, day=NEXT_MONTH)) is None
    assert await of_the_day(store) == (NEXT_MONTH, 100, 100)
    assert await sums(store) == (0, 200)


async def test_new_year_begins_with_nothing_spent(store: SqlStore) -> None:
    await add_key(store, month_micros=100)
    await store.hold(order("r1", 100, day="2025-12-31"))
    assert await store.hold(order("r2", 100, day="2026-01-01")) is None
    assert await store.hold(order("r3", 1, day="2026-12-01")) is None
    assert await of_the_day(store) == ("2026-12-01", 1, 1)


@pytest.mark.parametrize(("newer", "older"), [(TOMORROW, TODAY), (NEXT_MONTH, TODAY)])
async def test_slower_clock_counts_on_the_newer_day(store: SqlStore, newer: str, older: str) -> None:
    await add_key(store, day_micros=100)
    await store.hold(order("r1", 60, day=newer))
    assert await store.hold(order("r2", 41, day=older)) == HoldRefusal("day", 40)
    assert await store.hold(order("r2", 40, day=older)) is None
    assert await of_the_day(store) == (newer, 100, 100)
    assert (await row_of(store, "r2")).day == newer
    await store.settle(settled("r2", 15, day=older))
    assert await of_the_day(store) == (newer, 75, 75)


async def test_second_attempt_after_midnight_moves_its_request_to_the_new_day(store: SqlStore) -> None:
    await add_key(store, day_micros=100)
    await store.hold(order("r1", 30, day=TODAY))
    await store.hold(order("r2", 60, day=TOMORROW))
    assert await store.hold(order("r1", 30, 11, day=TODAY)) == HoldRefusal("day", 40)
    assert await store.hold(order("r1", 30, 10, day=TODAY)) is None
    assert await of_the_day(store) == (TOMORROW, 100, 100)
    await store.settle(ended(held("r1", 30, 10, day=TODAY), 5))
    assert await of_the_day(store) == (TOMORROW, 65, 65)


async def test_bound_that_is_lowered_or_lifted_counts_from_the_next_hold_on(store: SqlStore) -> None:
    await add_key(store, day_micros=100)
    await store.hold(order("r1", 60))
    await store.change_key(KEY_ID, {}, {"day_micros": 50})
    assert await store.hold(order("r2", 1)) == HoldRefusal("day", -10)
    await store.change_key(KEY_ID, {}, {"day_micros": None})
    assert await store.hold(order("r2", 1000)) is None


async def test_neighbours_share_their_commits(store: SqlStore) -> None:
    """Holds, notes and settlements that come together are written together."""
    for number in range(10):
        await store.add_key(a_key(number), Budget(total_micros=1_000_000))
    before = store.commits
    rows = [held(f"r{number}", 10, key_id=f"key_{number % 10}") for number in range(1500)]
    await holds(store, *(HoldOrder(row, 10) for row in rows))
    await asyncio.gather(*(store.note([noted(row, 3)]) for row in rows), *(store.settle(ended(row, 5)) for row in rows))
    assert store.commits - before <= 8
    assert await sums(store, "key_3") == (150 * 5, 0)
    assert {replace(row, attempts=()).cost_micros for row in await store.rows(since=0, limit=2000)} == {5}
