"""Rows and sums, over a real file and a real server."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from app.accounts.interfaces import AttemptRow, LedgerRow, UsageSummary
from app.accounts.usage import NO_TARIFF
from app.core.errors import InternalError, RecordsUnavailable
from app.store.journal import FILE_NAME
from app.store.sql import SqlStore
from app.store.tables import attempts, ledger
from tests.accounts.records import a_row, an_attempt
from tests.store.requests import a_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tuwen.db"


@pytest.fixture
async def filed(path: Path) -> AsyncIterator[SqlStore]:
    """A store in a file that the test looks at."""
    store = await SqlStore.open(path)
    yield store
    await store.aclose()


def test_ledger_has_one_column_per_field_of_a_row_in_its_order() -> None:
    assert [*ledger.columns.keys(), "attempts"] == [field.name for field in fields(LedgerRow)]


def test_attempts_have_the_request_and_one_column_per_field_in_its_order() -> None:
    assert list(attempts.columns.keys()) == ["request_id", *(field.name for field in fields(AttemptRow))]


async def test_file_is_for_its_owner_only(filed: SqlStore, path: Path) -> None:
    await filed.settle(a_row())
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_row_comes_back_as_it_was_booked(store: SqlStore) -> None:
    full = a_row(request_id="full", stream=False, error_code="backend_timeout", outcome="failed")
    bare = a_row(request_id="bare", backend_request_id=None, first_event_ms=None, started_at=full.started_at - 1)
    await store.settle(bare)
    await store.settle(full)
    assert await store.rows(since=0, limit=10) == [full, bare]


async def test_row_comes_back_with_its_attempts_in_order(store: SqlStore) -> None:
    failed = an_attempt(outcome="failed", error_code="backend_timeout", backend_request_id=None, cost_micros=0)
    both = a_row(request_id="both", attempts=(failed, an_attempt(number=2, backend="other")))
    one = a_row(request_id="a", attempts=(an_attempt(),), started_at=both.started_at - 1)
    await asyncio.gather(store.settle(both), store.settle(one), store.settle(a_row(request_id="none", started_at=1.0)))
    rows = await store.rows(since=2.0, limit=10)
    assert rows == [both, one]
    assert await store.rows(since=0, limit=1) == [both]


async def test_rows_with_their_attempts_take_two_questions(store: SqlStore) -> None:
    asked: list[str] = []

    def note(*told: Any) -> None:
        asked.append(told[2])

    await asyncio.gather(
        *(store.settle(a_row(request_id=f"r{number}", attempts=(an_attempt(),))) for number in range(50))
    )
    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert len(await store.rows(since=0, limit=100)) == 50
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len([statement for statement in asked if statement.startswith("SELECT")]) == 2


async def test_rows_come_newest_first_within_the_limit(store: SqlStore) -> None:
    await asyncio.gather(*(store.settle(a_row(request_id=f"r{at}", started_at=float(at))) for at in range(10)))
    newest = await store.rows(since=3.0, limit=4)
    assert [row.started_at for row in newest] == [9.0, 8.0, 7.0, 6.0]
    assert len(await store.rows(since=8.0, limit=10)) == 2


async def test_second_row_of_a_request_changes_nothing(store: SqlStore) -> None:
    first = a_row(cost_micros=5)
    await store.settle(first)
    await store.settle(replace(first, cost_micros=99))
    await asyncio.gather(*(store.settle(replace(first, cost_micros=100)) for _ in range(3)))
    assert await store.rows(since=0, limit=10) == [first]


async def test_neighbours_share_a_commit(store: SqlStore) -> None:
    await asyncio.gather(*(store.settle(a_row(request_id=f"r{number}")) for number in range(2500)))
    assert len(await store.rows(since=0, limit=5000)) == 2500
    assert store.commits <= 10


async def test_second_booking_of_a_request_adds_no_attempt_twice(store: SqlStore) -> None:
    row = a_row(attempts=(an_attempt(), an_attempt(number=2)))
    await store.settle(row)
    await asyncio.gather(*(store.settle(row) for _ in range(3)))
    assert await store.rows(since=0, limit=10) == [row]


async def test_row_whose_attempt_cannot_be_stored_is_not_stored_either(store: SqlStore, tmp_path: Path) -> None:
    """It waits in the journal whole, and harms no neighbour."""
    poison = a_row(request_id="poison", attempts=(an_attempt(), an_attempt(number=2, cost_micros=2**70)))
    good = a_row(request_id="good", attempts=(an_attempt(),))
    assert await asyncio.gather(store.settle(poison), store.settle(good)) == [poison, good]
    assert await store.rows(since=0, limit=10) == [good]
    assert str(2**70) in (tmp_path / "journal" / FILE_NAME).read_text()


async def test_row_is_booked_though_its_waiter_is_cancelled(store: SqlStore) -> None:
    waiter = asyncio.create_task(store.settle(a_row(request_id="left")))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await store.settle(a_row(request_id="stayed"))
    assert {row.request_id for row in await store.rows(since=0, limit=10)} == {"left", "stayed"}


async def test_closing_writes_what_was_handed_over(path: Path) -> None:
    store = await SqlStore.open(path)
    settled = [asyncio.create_task(store.settle(a_row(request_id=f"r{number}"))) for number in range(1500)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*settled)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM ledger").fetchone() == (1500,)


async def test_closed_store_refuses_rows_and_closes_again(path: Path) -> None:
    store = await SqlStore.open(path)
    await store.aclose()
    await store.aclose()
    with pytest.raises(InternalError):
        await store.settle(a_row())


async def test_rows_that_cannot_be_stored_wait_in_the_journal_alone(store: SqlStore, tmp_path: Path) -> None:
    poison = a_row(request_id="poison", cost_micros=2**70)
    surrogate = a_row(request_id="surrogate", model="\ud800")
    good = [a_row(request_id=f"r{number}") for number in range(3)]
    await asyncio.gather(*(store.settle(row) for row in (good[0], poison, good[1], surrogate, good[2])))
    assert len(await store.rows(since=0, limit=10)) == 3
    kept = (tmp_path / "journal" / FILE_NAME).read_text()
    assert all(f'"{name}"' in kept for name in ("poison", "surrogate"))


async def test_reading_does_not_wait_for_a_writer(filed: SqlStore, path: Path) -> None:
    await filed.settle(a_row())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert len(await filed.rows(since=0, limit=10)) == 1


async def test_damage_while_reading_is_our_fault_and_says_no_more(filed: SqlStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE ledger")
    with pytest.raises(RecordsUnavailable, match="cannot reach its records"):
        await filed.rows(since=0, limit=1)


async def test_summary_adds_up_per_model(store: SqlStore) -> None:
    await store.settle(a_row(request_id="1", model="b", input_tokens=1, output_tokens=2, image_count=3, cost_micros=4))
    await store.settle(a_row(request_id="2", model="b", input_tokens=10, output_tokens=20, image_count=0))
    await store.settle(a_row(request_id="3", model="a", outcome="failed", cost_micros=0))
    await store.settle(a_row(request_id="4", model="a", outcome="gone", cost_micros=0))
    await store.settle(a_row(request_id="5", model="old", started_at=1.0))
    assert await store.summary("model", since=2.0) == [
        UsageSummary("a", 2, 1, 2000, 400, 2, 0),
        UsageSummary("b", 2, 0, 11, 22, 3, 6404),
    ]


async def test_summary_counts_what_has_no_tariff(store: SqlStore) -> None:
    await store.settle(a_row(request_id="1", tariff=NO_TARIFF, cost_micros=0))
    await store.settle(
        a_row(request_id="2", tariff=NO_TARIFF, cost_micros=0, input_tokens=0, output_tokens=0, image_count=0)
    )
    await store.settle(a_row(request_id="3"))
    [group] = await store.summary("model", since=0)
    assert (group.requests, group.unpriced) == (3, 1)


async def test_days_are_those_of_local_time(filed: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        await filed.settle(a_row(request_id="1", started_at=1_763_481_600.0))  # 2025-11-18 16:00 UTC, midnight there
        await filed.settle(a_row(request_id="2", started_at=1_763_481_599.9))
        assert [group.group for group in await filed.summary("day", since=0)] == ["2025-11-18", "2025-11-19"]
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_keys_are_summed_up_with_their_names(store: SqlStore) -> None:
    await store.add_key(a_key(name="laptop"))
    await store.settle(a_row(request_id="1", key_id="key_1"))
    await store.settle(a_row(request_id="2", key_id="local"))
    assert [group.group for group in await store.summary("key", since=0)] == ["key_1 laptop", "local"]
