"""Details are kept for a while, and never in anybody's way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from app.accounts.details import Detail, Fault
from app.store.sql import SqlStore

FAULT = Fault(1, "spark", "BackendBusy", "11202", "iFlytek said: 授权错误" + "!" * 5000)
DETAIL = Detail("r1", 1000.0, "key_1", "m", "failed", "rate_limit_exceeded", ("seed dropped",), (FAULT,))


async def written(store: SqlStore) -> None:
    """Waits for what was handed over: a change comes after all that was handed over before it."""
    await store.renew_vendor_secret("nobody's")


async def test_detail_comes_back_with_what_the_backend_said(store: SqlStore) -> None:
    store.details.add(DETAIL)
    await written(store)
    found = await store.details.detail("r1")
    assert found == replace(DETAIL, faults=(replace(FAULT, detail=FAULT.detail[:2000]),))
    assert await store.details.detail("r2") is None


async def test_details_are_dropped_by_their_age(store: SqlStore) -> None:
    for at in range(5):
        store.details.add(replace(DETAIL, request_id=f"r{at}", at=float(at)))
    await written(store)
    assert await store.details.forget(3.0) == 3
    assert await store.details.forget(3.0) == 0
    assert [await store.details.detail(f"r{at}") is not None for at in range(5)] == [False, False, False, True, True]


async def test_key_that_is_refused_again_and_again_leaves_so_many_a_minute(store: SqlStore) -> None:
    for at in range(100):
        store.details.add(replace(DETAIL, request_id=f"r{at}"))
    store.details.add(replace(DETAIL, request_id="another's", key_id="key_2"))
    store.details.add(replace(DETAIL, request_id="a minute later", at=DETAIL.at + 60))
    await written(store)
    assert store.details.dropped == 40
    assert await store.details.detail("another's") is not None
    assert await store.details.detail("a minute later") is not None


async def test_details_nobody_can_write_yet_are_bounded_and_the_rest_dropped(tmp_path: Path) -> None:
    store = await SqlStore.open(tmp_path / "tuwen.db")
    with closing(sqlite3.connect(tmp_path / "tuwen.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for at in range(1100):
            store.details.add(replace(DETAIL, request_id=f"r{at}", key_id=f"key_{at}"))
        assert store.details.dropped == 100
        other.execute("ROLLBACK")
    await written(store)
    assert await store.details.detail("r999") is not None
    await store.aclose()


async def test_detail_of_a_gateway_that_stops_is_dropped_in_silence(tmp_path: Path) -> None:
    store = await SqlStore.open(tmp_path / "tuwen.db")
    await store.aclose()
    store.details.add(DETAIL)
    assert store.details.dropped == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_detail_of_a_request_is_there_once(store: SqlStore, times: int) -> None:
    for _ in range(times):
        store.details.add(DETAIL)
    await written(store)
    assert (await store.details.detail("r1")) is not None
    assert store.details.dropped == 0
