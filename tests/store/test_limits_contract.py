"""What every store of limits keeps to, this process's memory and Redis alike. A minute is less than a second here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from app.accounts.limits import Demand, NoTurn, Scope, Slots, Turn, Turns, Window
from tests.store.shared_stores import (
    QUEUE_LENGTH,
    SPAN_S,
    Store,
    admitted,
    given,
    memory,
    node,
    place,
    refused,
    requests,
    scope,
    ticket,
    tokens,
)
from tests.support.services import redis, redis_url  # noqa: F401 - fixtures

LONG_S = 20.0


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield memory()
        return
    async with node(request.getfixturevalue("redis_url")) as limits:
        assert not limits.degraded
        yield Store(limits.windows, limits.turns)


async def in_order(turns: Turns, at: Scope, *keys: str) -> tuple[list[str], list[asyncio.Task[Turn | NoTurn]]]:
    """Has keys queue one after the other; a list that fills with the keys in the order of their turns."""
    seen: list[str] = []

    async def one(key: str) -> Turn | NoTurn:
        turn = await turns.wait(at, ticket(key), LONG_S)
        if isinstance(turn, Turn):
            seen.append(key)
            turns.leave(turn)
        return turn

    waiting = []
    for key in keys:
        waiting.append(asyncio.create_task(one(key)))
        await asyncio.sleep(0.02)  # so that they come in this order; what is tested is the order of their turns
    return seen, waiting


async def test_window_admits_its_limit_and_tells_when_there_is_room(store: Store) -> None:
    for _ in range(3):
        admitted(await store.windows.enter(requests(3)))
    refusal = refused(await store.windows.enter(requests(3)))
    assert refusal.by == Window("rpm", 3)
    assert refusal.retry_after_s == 1
    await asyncio.sleep(SPAN_S + 0.01)
    admitted(await store.windows.enter(requests(3)))


async def test_in_every_span_no_more_is_admitted_than_the_limit(store: Store) -> None:
    times, until = [], monotonic() + 3 * SPAN_S
    while monotonic() < until:
        before = monotonic()
        outcome = await store.windows.enter(requests(10))
        if hasattr(outcome, "lease"):
            times.append((before, monotonic()))
        await asyncio.sleep(0.01)
    for at, (before, _) in enumerate(times[:-10]):
        assert times[at + 10][1] - before > SPAN_S
    assert len(times) >= 30


async def test_windows_of_owners_are_apart(store: Store) -> None:
    admitted(await store.windows.enter(requests(1, "key_a")))
    admitted(await store.windows.enter(requests(1, "key_b")))
    refused(await store.windows.enter(requests(1, "key_a")))


async def test_standing_tells_what_is_left(store: Store) -> None:
    standing = admitted(await store.windows.enter(tokens(100, 30))).standings[0]
    assert (standing.limit, standing.remaining) == (100, 70)
    assert SPAN_S - 0.01 <= standing.reset_s <= SPAN_S + 0.01
    standing = refused(await store.windows.enter(tokens(100, 90))).standings[0]
    assert standing.remaining == 70


async def test_all_is_taken_or_nothing(store: Store) -> None:
    both = Demand("key_a", (Window("rpm", 5), Window("tpm", 10, 6, of_tokens=True)), (Slots("slots", 3),))
    admitted(await store.windows.enter(both))
    refusal = refused(await store.windows.enter(both))
    assert refusal.by == both.windows[1]
    assert refusal.standings[0].remaining == 4
    for _ in range(2):
        admitted(await store.windows.enter(place(3)))
    refused(await store.windows.enter(place(3)))


async def test_weight_over_the_limit_passes_an_empty_window(store: Store) -> None:
    admitted(await store.windows.enter(tokens(100, 5_000)))
    refused(await store.windows.enter(tokens(100, 1)))


async def test_nothing_passes_a_limit_of_zero(store: Store) -> None:
    assert refused(await store.windows.enter(requests(0))).retry_after_s == 60
    refused(await store.windows.enter(place(0)))


async def test_tokens_reserved_too_much_are_room_again(store: Store) -> None:
    entry = admitted(await store.windows.enter(tokens(100, 90)))
    refused(await store.windows.enter(tokens(100, 50)))
    store.windows.leave(entry, used=50)
    admitted(await store.windows.enter(tokens(100, 50)))
    refused(await store.windows.enter(tokens(100, 1)))


async def test_tokens_used_beyond_what_was_reserved_count(store: Store) -> None:
    store.windows.leave(admitted(await store.windows.enter(tokens(100, 10))), used=95)
    admitted(await store.windows.enter(tokens(100, 5)))
    refused(await store.windows.enter(tokens(100, 1)))


async def test_requests_are_not_corrected_by_tokens(store: Store) -> None:
    demand = Demand("key_a", (Window("rpm", 2), Window("tpm", 1_000, 10, of_tokens=True)))
    store.windows.leave(admitted(await store.windows.enter(demand)), used=100)
    assert [each.remaining for each in admitted(await store.windows.enter(demand)).standings] == [0, 890]


async def test_correction_that_comes_too_late_changes_nothing(store: Store) -> None:
    entry = admitted(await store.windows.enter(tokens(100, 90)))
    await asyncio.sleep(SPAN_S + 0.01)
    admitted(await store.windows.enter(tokens(100, 10)))
    store.windows.leave(entry, used=0)
    assert admitted(await store.windows.enter(tokens(100, 10))).standings[0].remaining == 80


async def test_slots_bound_what_runs_at_once(store: Store) -> None:
    first = admitted(await store.windows.enter(place(2)))
    admitted(await store.windows.enter(place(2)))
    refusal = refused(await store.windows.enter(place(2)))
    assert (refusal.by, refusal.retry_after_s) == (Slots("slots", 2), 1)
    store.windows.leave(first)
    admitted(await store.windows.enter(place(2)))


async def test_turn_is_given_at_once_where_there_is_room(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket()))
    assert await store.turns.try_enter(at, ticket()) is None
    store.turns.leave(turn)
    given(await store.turns.try_enter(at, ticket()))


async def test_one_who_waits_gets_the_slot_that_is_left(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket()))
    waiting = asyncio.create_task(store.turns.wait(at, ticket(), LONG_S))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    store.turns.leave(turn)
    given(await asyncio.wait_for(waiting, 1))


async def test_one_who_waits_gets_through_when_the_window_opens(store: Store) -> None:
    at = scope(rpm=1)
    begun = monotonic()
    given(await store.turns.try_enter(at, ticket()))
    given(await store.turns.wait(at, ticket(), LONG_S))
    assert SPAN_S <= monotonic() - begun < SPAN_S + 0.5


async def test_greedy_key_does_not_starve_another(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket("key_a")))
    seen, waiting = await in_order(store.turns, at, "key_a", "key_a", "key_a", "key_b")
    store.turns.leave(turn)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert "key_b" in seen[:2]
    assert len(seen) == 4


async def test_greedy_key_that_filled_the_queue_keeps_nobody_out(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket("key_a")))
    seen, waiting = await in_order(store.turns, at, *["key_a"] * (QUEUE_LENGTH + 1), "key_b")
    store.turns.leave(turn)
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert seen.count("key_a") == QUEUE_LENGTH - 1
    assert "key_b" in seen[:2]
    assert [isinstance(outcome, NoTurn) for outcome in outcomes].count(True) == 2


async def test_deadline_that_a_window_cannot_meet_is_refused_at_once(store: Store) -> None:
    at = scope(rpm=1)
    given(await store.turns.try_enter(at, ticket()))
    begun = monotonic()
    assert await store.turns.wait(at, ticket(), SPAN_S / 2) == NoTurn(1)
    assert monotonic() - begun < 0.2


async def test_deadline_that_slots_cannot_meet_is_refused_at_once(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket()))
    await asyncio.sleep(0.4)  # turns take so long here
    store.turns.leave(turn)
    given(await store.turns.try_enter(at, ticket()))
    begun = monotonic()
    assert await store.turns.wait(at, ticket(), 0.3) == NoTurn(1)
    assert monotonic() - begun < 0.2


async def test_one_whose_deadline_comes_while_it_waits_is_refused_then(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket()))
    begun = monotonic()
    assert await store.turns.wait(at, ticket(), 0.3) == NoTurn(1)
    assert 0.3 <= monotonic() - begun < 0.6
    store.turns.leave(turn)
    given(await store.turns.try_enter(at, ticket()))


async def test_one_who_leaves_the_queue_holds_nobody_up(store: Store) -> None:
    at = scope(slots=1)
    turn = given(await store.turns.try_enter(at, ticket()))
    leaver = asyncio.create_task(store.turns.wait(at, ticket(), LONG_S))
    await asyncio.sleep(0.05)
    stayer = asyncio.create_task(store.turns.wait(at, ticket(), LONG_S))
    await asyncio.sleep(0.05)
    leaver.cancel()
    store.turns.leave(turn)
    store.turns.leave(given(await asyncio.wait_for(stayer, 1)))
    given(await store.turns.try_enter(at, ticket()))
    assert leaver.cancelled()


async def test_turn_that_comes_as_its_waiter_leaves_goes_to_the_next(store: Store) -> None:
    at = scope(slots=1, rpm=2)
    turn = given(await store.turns.try_enter(at, ticket()))
    leaver = asyncio.create_task(store.turns.wait(at, ticket(), LONG_S))
    await asyncio.sleep(0.05)
    store.turns.leave(turn)
    leaver.cancel()
    await asyncio.wait([leaver])
    given(await asyncio.wait_for(store.turns.wait(at, ticket(), LONG_S), SPAN_S / 2))


async def test_turn_given_back_counts_nowhere(store: Store) -> None:
    at = scope(rpm=1, tpm=100, slots=1)
    store.turns.give_back(given(await store.turns.try_enter(at, ticket(weight=100))))
    given(await store.turns.try_enter(at, ticket(weight=100)))


async def test_what_an_upstream_really_took_is_put_right(store: Store) -> None:
    at = scope(tpm=100)
    store.turns.leave(given(await store.turns.try_enter(at, ticket(weight=90))), used_tokens=20)
    store.turns.leave(given(await store.turns.try_enter(at, ticket(weight=10))), used_tokens=80)
    assert await store.turns.try_enter(at, ticket()) is None


async def test_scopes_are_apart(store: Store) -> None:
    given(await store.turns.try_enter(scope("backend:a", slots=1), ticket()))
    given(await store.turns.try_enter(scope("backend:b", slots=1), ticket()))


async def test_nothing_is_waited_for_where_nothing_ever_passes(store: Store) -> None:
    assert await store.turns.wait(scope(rpm=0), ticket(), LONG_S) == NoTurn(60)
    assert await store.turns.wait(scope(slots=0), ticket(), LONG_S) == NoTurn(60)
