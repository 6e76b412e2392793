"""Three processes that share limits in one Redis."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from redis.asyncio import Redis

from app.accounts.limits import NoTurn, Refused
from tests.store.shared_stores import admitted, crashed, given, node, place, requests, scope, ticket
from tests.support.services import redis, redis_url  # noqa: F401 - fixtures


def spans_seen(task: str, url: str, *, span_s: float, limit: int, for_s: float) -> list[tuple[float, float]]:
    """Runs three workers together; what they saw, in order of its beginning."""
    words = [sys.executable, "-m", "tests.store.limits_worker", task, url, str(span_s), str(limit), str(for_s)]
    workers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    lines = [line for worker in workers for line in worker.communicate(timeout=60)[0].splitlines()]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    return sorted((float(begun), float(ended)) for begun, ended in map(str.split, lines))


def test_three_processes_admit_the_limit_in_every_span_and_no_more(redis_url: str) -> None:  # noqa: F811 - a fixture
    """Its seconds are those of three interpreters that start, and of spans enough to see the window slide."""
    span_s, limit = 1.0, 60
    seen = spans_seen("windows", redis_url, span_s=span_s, limit=limit, for_s=3.5 * span_s)
    for at, (asked, _) in enumerate(seen[:-limit]):
        assert seen[at + limit][1] - asked > span_s
    # three and a half spans of saturation hold four fillings
    assert len(seen) >= 0.95 * 4 * limit


def test_turns_of_three_processes_are_shared(redis_url: str) -> None:  # noqa: F811 - the fixture of the same name
    seen = spans_seen("turns", redis_url, span_s=1.0, limit=2, for_s=2.0)
    for begun, _ in seen:
        assert sum(other_begun <= begun < other_ended for other_begun, other_ended in seen) <= 2
    assert len(seen) > 40


async def test_slots_of_a_crashed_node_free_themselves(redis_url: str) -> None:  # noqa: F811 - a fixture
    dead = await crashed(redis_url, lease_s=0.6)
    admitted(await dead.windows.enter(place(1)))
    given(await dead.turns.try_enter(scope(slots=1), ticket()))
    async with node(redis_url, lease_s=0.6) as alive:
        assert isinstance(await alive.windows.enter(place(1)), Refused)
        given(await alive.turns.wait(scope(slots=1), ticket(), 5))
        admitted(await alive.windows.enter(place(1)))
    await dead.aclose()


async def test_slots_of_a_living_node_are_kept(redis_url: str) -> None:  # noqa: F811 - the fixture of the same name
    async with node(redis_url, lease_s=0.6) as holder, node(redis_url, lease_s=0.6) as other:
        admitted(await holder.windows.enter(place(1)))
        given(await holder.turns.try_enter(scope(slots=1), ticket()))
        assert await other.turns.wait(scope(slots=1), ticket(), 1.5) == NoTurn(1)
        assert isinstance(await other.windows.enter(place(1)), Refused)


async def test_ticket_of_a_crashed_node_holds_nobody_up(redis_url: str) -> None:  # noqa: F811 - a fixture
    async with node(redis_url) as alive, node(redis_url) as dying:
        turn = given(await alive.turns.try_enter(scope(slots=1), ticket()))
        # asked for as by a node that dies right after
        await dying.turns._enter(scope(slots=1), ticket("key_b"), "ticket-of-the-dead", 10_000)
        alive.turns.leave(turn)
        given(await alive.turns.wait(scope(slots=1), ticket(), 10))


async def test_request_cancelled_while_it_asks_takes_no_place(redis_url: str) -> None:  # noqa: F811 - a fixture
    async with node(redis_url) as one:
        at = scope(slots=1)
        asking = [asyncio.create_task(one.windows.enter(place(1)))]
        asking.append(asyncio.create_task(one.turns.try_enter(at, ticket())))
        await asyncio.sleep(0)  # both have asked, and no answer can be there
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        assert all(task.cancelled() for task in asking)
        admitted(await one.windows.enter(place(1)))
        given(await one.turns.try_enter(at, ticket()))


async def test_nodes_know_how_many_they_are(redis_url: str) -> None:  # noqa: F811 - the fixture of the same name
    async with node(redis_url, lease_s=0.6) as one:
        async with node(redis_url, lease_s=0.6) as other:
            assert other.nodes == 2
            await one.look_after()
            assert one.nodes == 2
            assert [reading.value for reading in one.readings()] == [0]
        await one.look_after()
        assert one.nodes == 1


async def test_all_keys_in_redis_end_by_themselves(redis_url: str) -> None:  # noqa: F811 - the fixture of the same name
    async with node(redis_url) as one, Redis.from_url(redis_url) as client:
        admitted(await one.windows.enter(requests(5)))
        admitted(await one.windows.enter(place(5)))
        store_scope = scope(rpm=5, tpm=100, slots=1)
        turn = given(await one.turns.try_enter(store_scope, ticket()))
        await one.turns.wait(store_scope, ticket(), 0.1)
        one.turns.leave(turn)
        await one.turns.try_enter(store_scope, ticket())
        keys = await client.keys("*")
        assert len(keys) >= 5
        assert all(key.startswith(b"tuwen:") for key in keys)
        assert all([await client.pttl(key) > 0 for key in keys])
