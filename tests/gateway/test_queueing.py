"""The queues before models and backends."""

from __future__ import annotations

import asyncio

import pytest

from app.accounts.limits import NoTurn, Scope, Ticket, Turn, Turns
from app.config.catalog import Model
from app.core.clock import Clock
from app.core.errors import BackendBusy
from app.core.limits import Limits
from app.gateway.queueing import Passage, UpstreamTurns
from app.store.memory_turns import MemoryTurns
from tests.gateway.limited import model, not_asked

SPAN_S = 0.6


class Untouchable(Turns):
    """A store that nobody is to ask."""

    async def try_enter(self, scope: Scope, ticket: Ticket) -> Turn | None:
        raise AssertionError(scope)

    async def wait(self, scope: Scope, ticket: Ticket, within_s: float) -> Turn | NoTurn:
        raise AssertionError(scope)

    def leave(self, turn: Turn, used_tokens: int | None = None) -> None:
        raise AssertionError(turn)

    def give_back(self, turn: Turn) -> None:
        raise AssertionError(turn)


@pytest.fixture
def queues() -> UpstreamTurns:
    return UpstreamTurns(MemoryTurns(Clock(), length=10, span_s=SPAN_S), Clock(), longest_s=5)


def to(queues: UpstreamTurns, asked: Model, *, key_id: str = "key_a", tokens: int = 1) -> Passage:
    return queues.passage(asked.routes[0], asked, key_id=key_id, tokens=lambda: tokens)


def seen(queues: UpstreamTurns, scope: str) -> dict[str, float]:
    """The readings of a scope, by the last words of their names."""
    return {
        reading.name.removeprefix("tuwen_queue_"): reading.value
        for reading in queues.readings()
        if reading.labels == (("scope", scope),)
    }


async def test_route_without_limits_asks_no_store() -> None:
    queues = UpstreamTurns(Untouchable(), Clock(), longest_s=5)
    async with queues.passage(model().routes[0], model(), key_id="key_a", tokens=not_asked) as passage:
        assert passage.immediate
        await passage.wait(5)
    assert passage.queued_ms < 100


async def test_request_waits_for_the_slot_of_its_backend(queues: UpstreamTurns) -> None:
    asked = model(of_backend=Limits(concurrency=1))
    async with to(queues, asked) as first:
        assert first.immediate
        async with to(queues, asked) as second:
            assert not second.immediate
            waiting = asyncio.create_task(second.wait(5))
            await asyncio.sleep(0.05)
            assert seen(queues, "backend:spark")["waiting"] == 1
            await first.__aexit__(None, None, None)
            await asyncio.wait_for(waiting, 1)
            assert second.immediate
            assert 40 < second.queued_ms < 1000
    assert seen(queues, "backend:spark") == {
        "waiting": 0,
        "turns_total": 1,
        "waited_ms_total": pytest.approx(second.queued_ms, abs=20),
        "refused_total": 0,
    }


async def test_models_with_one_backend_share_its_limits(queues: UpstreamTurns) -> None:
    one, two = (model(model_id, of_backend=Limits(concurrency=1)) for model_id in ("one", "two"))
    async with to(queues, one), to(queues, two) as passage:
        assert not passage.immediate


async def test_limits_of_model_and_backend_both_hold(queues: UpstreamTurns) -> None:
    asked = model(limits=Limits(rpm=1), of_backend=Limits(concurrency=5))
    async with to(queues, asked):
        pass
    async with to(queues, asked) as passage:
        assert not passage.immediate
        await passage.wait(5)
        assert passage.queued_ms > SPAN_S * 500


async def test_turn_that_cannot_come_in_time_is_refused_at_once(queues: UpstreamTurns) -> None:
    asked = model(of_backend=Limits(rpm=1))
    async with to(queues, asked):
        pass
    async with to(queues, asked) as passage:
        with pytest.raises(BackendBusy, match="ask again in 1 s") as caught:
            await passage.wait(SPAN_S / 2)
        assert passage.queued_ms < 100
    assert (caught.value.backend, caught.value.retry_after_s) == ("spark", 1)
    assert seen(queues, "backend:spark")["refused_total"] == 1


async def test_nobody_waits_longer_than_the_longest_wait() -> None:
    queues = UpstreamTurns(MemoryTurns(Clock(), length=10), Clock(), longest_s=0.05)
    asked = model(of_backend=Limits(concurrency=1))
    async with to(queues, asked), to(queues, asked) as passage:
        with pytest.raises(BackendBusy):
            await passage.wait(600)
        assert passage.queued_ms < 1000


async def test_model_turn_is_given_back_where_the_backend_has_none(queues: UpstreamTurns) -> None:
    limited = model(limits=Limits(rpm=2), of_backend=Limits(concurrency=1))
    async with to(queues, limited), to(queues, limited) as refused:
        with pytest.raises(BackendBusy):
            await refused.wait(0.01)
    async with to(queues, limited) as passage:
        assert passage.immediate


async def test_upstream_that_was_not_asked_is_not_counted(queues: UpstreamTurns) -> None:
    asked = model(of_backend=Limits(rpm=1))
    async with to(queues, asked) as passage:
        passage.unused()
    async with to(queues, asked) as passage:
        assert passage.immediate


async def test_what_was_used_takes_the_place_of_the_estimate(queues: UpstreamTurns) -> None:
    asked = model(of_backend=Limits(tpm=100))
    async with to(queues, asked, tokens=90) as passage:
        passage.used(10)
    async with to(queues, asked, tokens=90) as passage:
        assert passage.immediate


async def test_one_who_leaves_while_waiting_holds_nobody_up(queues: UpstreamTurns) -> None:
    asked = model(of_backend=Limits(concurrency=1))

    async def asks() -> None:
        async with to(queues, asked) as passage:
            await passage.wait(5)

    async with to(queues, asked):
        leaver = asyncio.create_task(asks())
        await asyncio.sleep(0.05)
        leaver.cancel()
        await asyncio.wait([leaver])
        assert seen(queues, "backend:spark")["waiting"] == 0
    async with to(queues, asked) as passage:
        assert passage.immediate


async def test_greedy_key_does_not_starve_another(queues: UpstreamTurns) -> None:
    asked = model(of_backend=Limits(concurrency=1))
    order: list[str] = []

    async def asks(key_id: str) -> None:
        async with to(queues, asked, key_id=key_id) as passage:
            await passage.wait(5)
            order.append(key_id)

    async with to(queues, asked, key_id="greedy"):
        tasks = [asyncio.create_task(asks(key_id)) for key_id in ["greedy"] * 6 + ["modest"]]
        await asyncio.sleep(0.05)
    await asyncio.gather(*tasks)
    assert "modest" in order[:2]


async def test_only_so_many_scopes_are_told_apart() -> None:
    queues = UpstreamTurns(MemoryTurns(Clock(), length=10), Clock(), longest_s=5)
    for number in range(1002):
        asked = model(f"made-up-{number}", limits=Limits(concurrency=0))
        async with to(queues, asked) as passage:
            with pytest.raises(BackendBusy):
                await passage.wait(0.01)
    assert seen(queues, "(other)")["refused_total"] == 2


async def test_turns_taken_before_a_failure_are_given_back() -> None:
    turns = MemoryTurns(Clock(), length=10)

    class Failing(Untouchable):
        async def try_enter(self, scope: Scope, ticket: Ticket) -> Turn | None:
            if scope.name.startswith("backend:"):
                raise asyncio.CancelledError
            return await turns.try_enter(scope, ticket)

        def give_back(self, turn: Turn) -> None:
            turns.give_back(turn)

    asked = model(limits=Limits(rpm=1), of_backend=Limits(rpm=1))
    with pytest.raises(asyncio.CancelledError):
        await to(UpstreamTurns(Failing(), Clock(), longest_s=5), asked).__aenter__()
    assert await turns.try_enter(Scope("model:qwen-vl", asked.limits), Ticket("key_a", 1)) is not None
