"""What was booked, read back: filters, pages, sums."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from sqlalchemy import Engine, event

from app.accounts.interfaces import LedgerRow, UsageSummary
from app.accounts.reports import AskedOnce, Mark, Only, all_rows
from app.accounts.usage import NO_TARIFF
from app.store.engine import READERS
from app.store.sql import SqlStore
from tests.accounts.records import a_row, an_attempt

NOON = 1_763_600_000.25


@pytest.fixture
async def recipe(store: SqlStore) -> LedgerRow:
    """Two were asked: one read the picture, one answered."""
    read = an_attempt(backend="ocr", model="reader", input_tokens=7, output_tokens=0, image_count=0, cost_micros=40)
    answered = an_attempt(number=2, backend="qwen", input_tokens=5, output_tokens=6, image_count=0, cost_micros=100)
    return await store.settle(
        a_row(request_id="recipe", model="mixed", backend="qwen", day="2025-11-20", attempts=(read, answered))
    )


async def test_row_is_found_by_its_id(store: SqlStore, recipe: LedgerRow) -> None:
    assert await store.row("recipe") == recipe
    assert await store.row("another") is None


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize(
    ("only", "found"),
    [
        (Only(), {"recipe", "old", "late"}),
        (Only(until=NOON + 10), {"recipe", "old"}),
        (Only(key_id="key_2"), {"late"}),
        (Only(model="mixed"), {"recipe"}),
        (Only(backend="ocr"), {"recipe"}),
        (Only(backend="qwen"), {"recipe", "old", "late"}),
        (Only(backend="qwen", key_id="key_2"), {"late"}),
        (Only(backend="none"), set()),
    ],
)
async def test_rows_are_those_that_were_wanted(store: SqlStore, only: Only, found: set[str]) -> None:
    await store.settle(a_row(request_id="old", started_at=NOON - 5))
    await store.settle(a_row(request_id="late", started_at=NOON + 10, key_id="key_2", attempts=(an_attempt(),)))
    assert {row.request_id for row in await store.rows(since=0, limit=10, only=only)} == found
    groups = await store.summary("key", since=0, only=only)
    assert sum(group.requests for group in groups) == len(found)


async def test_pages_hold_every_row_once_though_many_came_in_the_same_moment(store: SqlStore) -> None:
    for number in range(7):
        await store.settle(a_row(request_id=f"r{number}", started_at=NOON + (number > 4)))
    first = await store.rows(since=0, limit=3)
    second = await store.rows(since=0, limit=3, after=Mark.of(first[-1]))
    third = await store.rows(since=0, limit=3, after=Mark.of(second[-1]))
    assert [row.request_id for row in (*first, *second, *third)] == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert [[row.request_id for row in page] async for page in all_rows(store, since=NOON + 1)] == [["r6", "r5"]]


@pytest.mark.usefixtures("recipe")
async def test_by_backend_each_that_was_asked_counts_with_its_own_sums(store: SqlStore) -> None:
    await store.settle(a_row(request_id="kept before attempts were", backend="old", input_tokens=1, output_tokens=2))
    await store.settle(a_row(request_id="refused", backend="", cost_micros=0))
    assert await store.summary("backend", since=0) == [
        UsageSummary("ocr", 1, 0, 7, 0, 0, 40),
        UsageSummary("old", 1, 0, 1, 2, 1, 6_400),
        UsageSummary("qwen", 1, 0, 5, 6, 0, 100),
    ]
    assert [group.group for group in await store.summary("backend", since=0, only=Only(backend="ocr"))] == ["ocr"]


async def test_a_day_is_the_one_the_request_was_booked_on(store: SqlStore) -> None:
    await store.settle(a_row(request_id="1", day="2025-01-02"))
    assert [group.group for group in await store.summary("day", since=0)] == ["2025-01-02"]


async def test_times_a_backend_was_asked_come_oldest_first_in_pages(store: SqlStore) -> None:
    failed = an_attempt(outcome="failed", cost_micros=0, input_tokens=0, output_tokens=0, image_count=0)
    unpriced = an_attempt(number=2, tariff=NO_TARIFF, cost_micros=0, backend_request_id="up-2")
    await store.settle(a_row(request_id="b", day="2025-11-20", attempts=(failed, unpriced)))
    await store.settle(a_row(request_id="a", day="2025-11-19", started_at=NOON - 9, cost_micros=5))
    await store.settle(a_row(request_id="c", backend="other", attempts=(an_attempt(backend="other"),)))
    first = await store.asked("qwen", since=0, until=None, limit=2)
    rest = await store.asked("qwen", since=0, until=None, limit=2, after=first[-1])
    old = AskedOnce("a", 0, NOON - 9, "2025-11-19", "chatcmpl-1", 5, unpriced=False)
    free = AskedOnce("b", 1, NOON, "2025-11-20", "chatcmpl-1", 0, unpriced=False)
    unknown = AskedOnce("b", 2, NOON, "2025-11-20", "up-2", 0, unpriced=True)
    assert [*first, *rest] == [old, free, unknown]
    assert [each.billable for each in (old, free, unknown)] == [True, False, True]
    assert await store.asked("qwen", since=NOON - 9, until=NOON, limit=9) == [old]


async def test_days_of_old_rows_are_worked_out_in_local_time(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        await store.settle(a_row(request_id="1", started_at=1_763_481_600.0))  # 2025-11-18 16:00 UTC, midnight there
        assert [each.day for each in await store.asked("qwen", since=0, until=None, limit=9)] == ["2025-11-19"]
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_key_is_looked_up_though_many_reports_are_read(store: SqlStore) -> None:
    reading, may_end = threading.Semaphore(0), threading.Event()

    def wait(*told: Any) -> None:
        if "GROUP BY" in told[2]:
            reading.release()
            may_end.wait(30)

    event.listen(Engine, "before_cursor_execute", wait)
    try:
        summaries = [asyncio.create_task(store.summary("day", since=0)) for _ in range(2 * READERS)]
        await asyncio.to_thread(reading.acquire)
        assert await asyncio.wait_for(store.key_by_digest("none"), 10) is None
        may_end.set()
        await asyncio.gather(*summaries)
    finally:
        may_end.set()
        event.remove(Engine, "before_cursor_execute", wait)
