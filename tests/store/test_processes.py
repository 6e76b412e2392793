"""Several processes on one database, and one that dies. What takes over five seconds starts them on a busy machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.accounts.balances import Budget
from app.accounts.keys import Authenticator
from app.core.clock import Clock
from app.store.engine import Place
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.store.processes import outputs, said_until_killed, start
from tests.store.requests import a_key, add_key, sums

SLOWEST_S = 0.9
"""Postgres finds two that wait for each other after a second; nobody is to wait so long."""


@pytest.fixture
def address(place: Place) -> str:
    """As a worker is told it."""
    return str(place.file or place.url.set(drivername="postgresql").render_as_string(hide_password=False))


async def test_row_is_there_after_the_process_that_booked_it_was_killed(place: Place, address: str) -> None:
    booked = said_until_killed(start(address, "until-killed"), 20)
    store = await SqlStore.open(place)
    rows = await store.rows(since=0, limit=1_000_000)
    await store.aclose()
    assert len(booked) >= 20
    assert set(booked) <= {row.request_id for row in rows}


async def test_processes_that_write_at_once_lose_nothing(store: SqlStore, address: str) -> None:
    outputs(start(address, "settle", "a"), start(address, "settle", "b"))
    assert len(await store.rows(since=0, limit=1000)) == 600


async def test_processes_together_hold_no_more_than_the_bound_carries(store: SqlStore, address: str) -> None:
    await add_key(store, day_micros=30 * 7)
    granted = outputs(*(start(address, "hold", name) for name in "ab"))
    assert sum(map(int, granted)) == 30
    assert await sums(store) == (0, 30 * 7)
    assert len(await store.rows(since=0, limit=1000)) == 30


async def test_processes_that_serve_the_same_keys_do_not_wait_for_each_other(
    store: SqlStore, place: Place, address: str
) -> None:
    for number in range(10):
        await store.add_key(a_key(number), Budget(total_micros=10**9))
    slowest_s = outputs(*(start(address, "serve", name) for name in "ab"))
    assert [await sums(store, f"key_{number}") for number in range(10)] == [(240 * 4, 0)] * 10
    if place.file is None:
        assert max(map(float, slowest_s)) < SLOWEST_S


async def test_of_processes_that_start_together_one_mints_the_first_key(
    place: Place, address: str, tmp_path: Path
) -> None:
    keys = outputs(*(start(address, "first-key", tmp_path) for _ in range(3)))
    [minted] = [key for key in keys if key != "None"]
    store = await SqlStore.open(place)
    authenticator = Authenticator(store, server_secret(tmp_path, None), clock=Clock())
    assert (await authenticator.caller(minted)).admin
    assert len(await store.keys()) == 1
    await store.aclose()
