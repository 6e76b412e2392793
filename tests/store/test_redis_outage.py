"""Redis goes away and comes back, while requests come in."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from time import monotonic

import pytest
import redis
from structlog.testing import capture_logs

from app.accounts.limits import Admitted, Refused
from app.store.redis_line import PATIENCE_S
from app.store.shared_limits import SharedLimits
from tests.store.shared_stores import admitted, given, node, place, refused, requests, scope, ticket
from tests.support.services import PrivateRedis, private_redis, require_redis

HANGS_S = PATIENCE_S + 0.35
"""What a request may wait for Redis, and a busy machine for its turn."""


@pytest.fixture(scope="module")
def aside() -> Iterator[Executor]:
    """A thread that starts and stops the server while requests go on. It outlives the server, which ends with it."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="module")
def _server(aside: Executor) -> Iterator[PrivateRedis]:
    require_redis()
    with private_redis() as server:
        yield server


@pytest.fixture
def server(_server: PrivateRedis) -> PrivateRedis:
    _server.start()
    _server.empty()
    return _server


@pytest.fixture
async def limits(server: PrivateRedis) -> AsyncIterator[SharedLimits]:
    async with node(server.url, span_s=60, lease_s=3) as one:
        yield one


async def back(limits: SharedLimits) -> None:
    """Returns once it has found Redis again."""
    async with asyncio.timeout(10):
        while limits.degraded:
            await asyncio.sleep(0.02)


async def test_without_redis_a_process_keeps_its_share(server: PrivateRedis, limits: SharedLimits) -> None:
    async with node(server.url), node(server.url):
        await limits.look_after()
        assert limits.nodes == 3
        server.stop()
        outcomes = [await limits.windows.enter(requests(10)) for _ in range(4)]
        assert [type(outcome) for outcome in outcomes] == [Admitted, Admitted, Admitted, Refused]
        assert all(outcome.alone for outcome in outcomes)
        assert refused(outcomes[3]).by.limit == 3
        assert limits.degraded


async def test_no_request_hangs_while_redis_dies_and_returns_under_load(
    server: PrivateRedis, limits: SharedLimits, aside: Executor
) -> None:
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    alone = set()
    ended = asyncio.Event()

    async def load() -> None:
        while not ended.is_set():
            begun = monotonic()
            outcome = await limits.windows.enter(requests(1_000_000))
            waits.append(monotonic() - begun)
            alone.add(admitted(outcome).alone)
            limits.windows.leave(admitted(outcome))
            await asyncio.sleep(0.001)

    loads = [asyncio.create_task(load()) for _ in range(10)]
    await asyncio.sleep(0.2)
    assert alone == {False}
    await loop.run_in_executor(aside, server.stop)
    await asyncio.sleep(0.2)
    assert limits.degraded
    await loop.run_in_executor(aside, server.start)
    await back(limits)
    alone.clear()
    await asyncio.sleep(0.2)
    ended.set()
    await asyncio.gather(*loads)
    assert alone == {False}
    assert max(waits) < HANGS_S


async def test_redis_that_hangs_is_as_one_that_is_away(server: PrivateRedis, limits: SharedLimits) -> None:
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        begun = monotonic()
        assert admitted(await limits.windows.enter(requests(10))).alone
        assert monotonic() - begun < HANGS_S
        begun = monotonic()
        assert admitted(await limits.windows.enter(requests(10))).alone
        assert monotonic() - begun < 0.1  # it is known to be away
    finally:
        os.kill(server._process.pid, signal.SIGCONT)
    await back(limits)


async def test_outage_is_told_once_in_the_log(server: PrivateRedis, limits: SharedLimits) -> None:
    with capture_logs() as logs:
        server.stop()
        for _ in range(20):
            await limits.windows.enter(requests(1000))
        await limits.look_after()
        server.start()
        await back(limits)
    assert [entry["log_level"] for entry in logs if "redis" in entry["event"]] == ["warning", "info"]


async def test_process_that_starts_without_redis_finds_it_later(server: PrivateRedis) -> None:
    server.stop()
    async with node(server.url) as limits:
        assert limits.degraded
        assert admitted(await limits.windows.enter(requests(1))).alone
        server.start()
        await back(limits)
        assert not admitted(await limits.windows.enter(requests(1))).alone


async def test_slots_held_in_an_outage_stay_held(server: PrivateRedis, limits: SharedLimits) -> None:
    before = admitted(await limits.windows.enter(place(2)))
    server.stop()
    during = admitted(await limits.windows.enter(place(2)))
    assert during.alone
    refused(await limits.windows.enter(place(2)))
    server.start()
    await back(limits)
    refused(await limits.windows.enter(place(2)))
    limits.windows.leave(during)
    limits.windows.leave(before)
    for _ in range(2):
        assert not admitted(await limits.windows.enter(place(2))).alone
    refused(await limits.windows.enter(place(2)))


async def test_turns_held_in_an_outage_stay_held(server: PrivateRedis, limits: SharedLimits) -> None:
    at = scope(slots=2)
    before = given(await limits.turns.try_enter(at, ticket()))
    server.stop()
    during = given(await limits.turns.try_enter(at, ticket()))
    assert during.alone
    assert await limits.turns.try_enter(at, ticket()) is None
    server.start()
    await back(limits)
    assert await limits.turns.try_enter(at, ticket()) is None
    for turn in (before, during):
        limits.turns.leave(turn)
    for _ in range(2):
        given(await limits.turns.try_enter(at, ticket()))
    assert await limits.turns.try_enter(at, ticket()) is None


async def test_those_who_wait_go_on_waiting_in_an_outage(server: PrivateRedis, limits: SharedLimits) -> None:
    at = scope(slots=1)
    turn = given(await limits.turns.try_enter(at, ticket()))
    waiting = asyncio.create_task(limits.turns.wait(at, ticket(), 20))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(0.4)
    assert not waiting.done()
    limits.turns.leave(turn)
    assert given(await asyncio.wait_for(waiting, 1)).alone


async def test_place_in_a_queue_that_redis_lost_is_taken_anew(server: PrivateRedis, limits: SharedLimits) -> None:
    at = scope(slots=1)
    turn = given(await limits.turns.try_enter(at, ticket()))
    waiting = asyncio.create_task(limits.turns.wait(at, ticket(), 20))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.empty)
    given(await asyncio.wait_for(waiting, 1))
    limits.turns.leave(turn)


async def test_scripts_that_redis_forgot_are_brought_again(server: PrivateRedis, limits: SharedLimits) -> None:
    with redis.Redis.from_url(server.url) as other:
        other.script_flush()
    assert admitted(await limits.windows.enter(requests(5))).alone
    await back(limits)
    assert not admitted(await limits.windows.enter(requests(5))).alone
