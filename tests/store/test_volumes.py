"""Prices that fall with the month's volume: counted where rows are closed, per key, model and month."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.accounts.interfaces import HoldOrder, LedgerRow
from app.accounts.usage import tariff_of, usage_of
from app.core.money import Tariff
from app.store.ledger import settle
from app.store.sql import SqlStore
from tests.accounts.records import an_attempt
from tests.store.requests import (
    KEY_ID,
    NEXT_MONTH,
    TODAY,
    TOMORROW,
    a_tiered_attempt,
    add_key,
    ended,
    held,
    order,
    row_of,
    sums,
    tiered,
)

TOKENS = tiered(100, 200)
"""8 micro-yuan a token, 4 from the 101st on, 2 from the 201st."""


@pytest.fixture(autouse=True)
async def _key(store: SqlStore) -> None:
    await add_key(store)


def a_request(
    request_id: str, tariff: Tariff = TOKENS, *, key_id: str = KEY_ID, day: str = TODAY, model: str = "m", **used: int
) -> LedgerRow:
    """A request at its end that used this, priced as at the beginning of a month: the gateway knows no volumes."""
    attempt = a_tiered_attempt(tariff, model=model, outcome="finished", **used)
    attempt = replace(attempt, cost_micros=tariff.cost_micros(usage_of((attempt,))))
    row = held(request_id, key_id=key_id, day=day)
    closed = replace(row, state="settled", outcome="finished", hold_micros=0, lease_until=None, attempts=(attempt,))
    return replace(closed, cost_micros=attempt.cost_micros, tariff=attempt.tariff)


async def cost(store: SqlStore, request_id: str, tariff: Tariff = TOKENS, **of_request: Any) -> int:
    """What the store says that a request costs."""
    return (await store.settle(a_request(request_id, tariff, **of_request))).cost_micros


@pytest.mark.parametrize(
    ("before", "cost_micros"),
    [(98, 16), (99, 8 + 4), (100, 8), (101, 8), (198, 8), (199, 4 + 2), (200, 4), (201, 4), (10**9 - 5, 4)],
)
async def test_tokens_are_split_at_the_edges(store: SqlStore, before: int, cost_micros: int) -> None:
    await cost(store, "before", input_tokens=before)
    assert await cost(store, "r1", input_tokens=2) == cost_micros


async def test_request_that_crosses_two_edges_is_split_at_both(store: SqlStore) -> None:
    assert await cost(store, "r1", input_tokens=150, output_tokens=70) == 100 * 8 + 100 * 4 + 20 * 2
    assert await cost(store, "r2", output_tokens=1) == 2


async def test_input_comes_before_output(store: SqlStore) -> None:
    output_is_dear = replace(TOKENS, output_per_million=100_000_000)
    assert await cost(store, "r1", output_is_dear, input_tokens=99, output_tokens=2) == 99 * 8 + 100 + 4


async def test_pictures_are_split_at_the_edges(store: SqlStore) -> None:
    tariff = tiered(10, 20, volume="pictures")
    costs = [await cost(store, f"r{at}", tariff, image_count=count) for at, count in enumerate((9, 2, 8, 1, 1, 1))]
    assert costs == [72, 8 + 4, 8 * 4, 4, 2, 2]


async def test_calls_are_counted_one_by_one(store: SqlStore) -> None:
    tariff = tiered(2, 4, volume="calls")
    assert [await cost(store, f"r{at}", tariff, input_tokens=7) for at in range(6)] == [8, 8, 4, 4, 2, 2]


async def test_call_that_nothing_is_paid_for_is_not_counted(store: SqlStore) -> None:
    tariff = tiered(1, volume="calls")
    failed = a_request("r1", tariff)
    failed = replace(failed, attempts=(replace(failed.attempts[0], outcome="failed", cost_micros=0),))
    assert (await store.settle(failed)).cost_micros == 0
    assert await cost(store, "r2", tariff) == 8
    assert await cost(store, "r3", tariff) == 4


async def test_volume_is_of_one_key_one_model_and_one_month(store: SqlStore) -> None:
    await add_key(store, 2)
    await cost(store, "before", input_tokens=100)
    assert await cost(store, "r1", input_tokens=1) == 4
    assert await cost(store, "r2", input_tokens=1, key_id="key_2") == 8
    assert await cost(store, "r3", input_tokens=1, model="another") == 8
    assert await cost(store, "r4", input_tokens=1, day=NEXT_MONTH) == 8
    assert await cost(store, "r5", input_tokens=1, day=TOMORROW) == 4


async def test_requests_in_one_commit_come_one_after_the_other(store: SqlStore) -> None:
    rows = [a_request(f"r{at}", input_tokens=30) for at in range(7)]
    booked = await asyncio.gather(*map(store.settle, rows))
    assert sum(row.cost_micros for row in booked) == 100 * 8 + 100 * 4 + 10 * 2
    assert await sums(store) == (1220, 0)
    assert sorted(row.attempts[0].volume_before for row in booked) == [0, 30, 60, 90, 120, 150, 180]


async def test_cost_can_be_checked_from_what_the_row_keeps(store: SqlStore) -> None:
    await cost(store, "before", input_tokens=90)
    await cost(store, "r1", input_tokens=15, output_tokens=10)
    [attempt] = (row := await row_of(store)).attempts
    assert attempt.volume_before == 90
    tariff = tariff_of(attempt.tariff)
    assert tariff is not None
    assert tariff.cost_micros(usage_of((attempt,)), 90) == attempt.cost_micros == row.cost_micros == 140


async def test_each_attempt_of_a_request_has_the_volume_of_its_own_model(store: SqlStore) -> None:
    """A recipe: two steps, and in between one without tiers."""
    row = a_request("r1", input_tokens=99)
    second = replace(row.attempts[0], number=2, model="other")
    plain = an_attempt(number=3, cost_micros=5)
    again = replace(row.attempts[0], number=4, input_tokens=2)
    booked = await store.settle(replace(row, attempts=(row.attempts[0], second, plain, again)))
    assert [attempt.cost_micros for attempt in booked.attempts] == [792, 792, 5, 12]
    assert booked.cost_micros == 1601
    assert await sums(store) == (1601, 0)
    assert await row_of(store) == booked


async def test_second_end_of_a_request_adds_no_volume(store: SqlStore) -> None:
    row = a_request("r1", input_tokens=99)
    booked = [*await asyncio.gather(store.settle(row), store.settle(row)), await store.settle(row)]
    assert booked == [booked[0]] * 3
    assert await cost(store, "r2", input_tokens=2) == 12


async def test_end_whose_commit_succeeded_unheard_adds_no_volume_and_says_the_same_price(store: SqlStore) -> None:
    await cost(store, "before", input_tokens=99)
    rows = [a_request("r1", input_tokens=2)]
    told = [await store._database.writer.apply(lambda connection: settle(connection, rows)) for _ in range(2)]
    assert [booked.cost_micros for [booked] in told] == [12, 12]
    assert await cost(store, "r2", input_tokens=1) == 4


async def standing(store: SqlStore, request_id: str, **used: int) -> LedgerRow:
    """A request under way whose backend has answered so much by now."""
    over = a_request(request_id, **used)
    running = replace(over.attempts[0], outcome="running")
    open_ = replace(over, state="dispatched", outcome="running", hold_micros=900, lease_until=100.0)
    await store.hold(HoldOrder(replace(open_, attempts=(replace(running, input_tokens=0, cost_micros=0),)), 900))
    await store.note([replace(open_, attempts=(running,))])
    return over


async def test_request_whose_gateway_died_counts_what_was_noted(store: SqlStore) -> None:
    await cost(store, "before", input_tokens=99)
    await standing(store, "r1", input_tokens=2)
    await store.expire(100.1)
    assert (await row_of(store)).cost_micros == 8 + 4
    assert await sums(store) == (99 * 8 + 12, 0)
    assert await cost(store, "r2", input_tokens=99) == 99 * 4
    assert await cost(store, "r3", input_tokens=1) == 2


async def test_late_end_counts_instead_of_what_was_noted(store: SqlStore) -> None:
    await standing(store, "r1", input_tokens=40)
    await store.expire(100.1)
    late = a_request("r1", input_tokens=101)
    booked = await store.settle(late)
    assert (booked.cost_micros, booked.attempts[0].volume_before) == (804, 0)
    assert await sums(store) == (804, 0)
    assert await cost(store, "r2", input_tokens=1) == 4
    assert await store.settle(late) == booked


async def test_late_end_of_a_request_that_nothing_came_of_takes_its_volume_back(store: SqlStore) -> None:
    await standing(store, "r1", input_tokens=40)
    await store.expire(100.1)
    late = a_request("r1")
    unpaid = replace(late, attempts=(replace(late.attempts[0], outcome="failed", cost_micros=0),), cost_micros=0)
    await store.settle(unpaid)
    assert await sums(store) == (0, 0)
    assert await cost(store, "r2", input_tokens=101) == 804


async def test_late_end_by_another_route_takes_the_volume_of_what_was_noted_back(store: SqlStore) -> None:
    """What was noted was a model with tiers; what answered in the end has none."""
    await standing(store, "r1", input_tokens=40)
    await store.expire(100.1)
    await store.settle(ended(held("r1", 900), 7, tariff="null"))
    assert await sums(store) == (7, 0)
    assert await cost(store, "r2", input_tokens=101) == 804


async def test_what_is_held_carries_the_dearest_tier(store: SqlStore) -> None:
    """A hold is taken before the volume is known, so a cost never exceeds what was set aside."""
    used = {"input_tokens": 150, "output_tokens": 60}
    over = a_request("r1", **used)
    most_micros = TOKENS.most_micros(usage_of(over.attempts))
    await store.hold(order("r1", most_micros))
    assert (await store.settle(over)).cost_micros <= most_micros
