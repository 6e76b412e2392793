"""Requests as the gateway books them: the money they want, the rows they end in, and tariffs with tiers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.accounts.balances import Balance, Budget
from app.accounts.interfaces import AttemptRow, HoldOrder, KeyRecord, LedgerRow
from app.accounts.usage import tariff_json, with_attempts
from app.core.money import Prices, Tariff, Tier, VolumeUnit
from app.store.sql import SqlStore
from tests.accounts.records import a_row, an_attempt

TODAY = "2025-11-20"
TOMORROW = "2025-11-21"
NEXT_MONTH = "2025-12-01"
KEY_ID = "key_1"


def a_key(number: int = 1, **changes: Any) -> KeyRecord:
    """A key like any other, but for what the test is about."""
    record = KeyRecord(f"key_{number}", f"laptop {number}", f"d{number}", admin=False, created_at=10.0 + number)
    return replace(record, **changes)


async def add_key(store: SqlStore, number: int = 1, **bounds: int | None) -> str:
    """Stores a key with these bounds; its id."""
    await store.add_key(a_key(number), Budget(**bounds))
    return f"key_{number}"


def held(
    request_id: str = "r1",
    *micros: int,
    key_id: str = KEY_ID,
    day: str = TODAY,
    lease_until: float = 100.0,
    dispatched: bool = False,
) -> LedgerRow:
    """An open row, money set aside for each of its attempts."""
    attempts = tuple(
        an_attempt(number=number, outcome="running", input_tokens=0, output_tokens=0, image_count=0, cost_micros=0)
        for number in range(1, max(len(micros), 1) + 1)
    )
    return a_row(
        request_id=request_id,
        key_id=key_id,
        day=day,
        input_tokens=0,
        output_tokens=0,
        image_count=0,
        cost_micros=0,
        outcome="running",
        state="dispatched" if dispatched else "held",
        hold_micros=sum(micros),
        lease_until=lease_until,
        attempts=attempts,
    )


def order(request_id: str = "r1", *micros: int, **changes: Any) -> HoldOrder:
    """An order for the last of these amounts; those before were granted to earlier attempts."""
    return HoldOrder(held(request_id, *micros, **changes), micros[-1])


def noted(row: LedgerRow, cost_micros: int, **changes: Any) -> LedgerRow:
    """The row once its backend was asked and has begun to answer, worth so much by now."""
    last = replace(row.attempts[-1], cost_micros=cost_micros, input_tokens=70, output_tokens=7)
    changed = replace(row, state="dispatched", input_tokens=70, output_tokens=7, **changes)
    return with_attempts(changed, (*row.attempts[:-1], last))


def ended(row: LedgerRow, cost_micros: int, **of_attempt: Any) -> LedgerRow:
    """The row at its end, as a gateway books it; what is said of the attempt that answered holds for the row too."""
    used = {"input_tokens": 1000, "output_tokens": 200, "cached_tokens": 10, "image_count": 1, **of_attempt}
    last = replace(row.attempts[-1], outcome="finished", cost_micros=cost_micros, **used)
    attempts = (*(replace(each, outcome="failed") for each in row.attempts[:-1]), last)
    state = "settled" if cost_micros else "released"
    closed = replace(row, state=state, outcome="finished", hold_micros=0, lease_until=None, **used)
    return with_attempts(closed, attempts)


def settled(request_id: str = "r1", cost_micros: int = 5, **changes: Any) -> LedgerRow:
    """A row at its end, for which nothing was set aside or whatever was."""
    return ended(held(request_id, **changes), cost_micros)


async def balance_of(store: SqlStore, key_id: str = KEY_ID) -> Balance:
    balance = await store.balance(key_id)
    assert balance is not None
    return balance


async def sums(store: SqlStore, key_id: str = KEY_ID) -> tuple[int, int]:
    """What a key has spent, and what is set aside for it."""
    balance = await balance_of(store, key_id)
    return balance.spent_micros, balance.held_micros


async def of_the_day(store: SqlStore, key_id: str = KEY_ID) -> tuple[str, int, int]:
    """The newest day of a key; what that day and its month took."""
    balance = await balance_of(store, key_id)
    return balance.day, balance.day_micros, balance.month_micros


async def row_of(store: SqlStore, request_id: str = "r1") -> LedgerRow:
    [row] = [row for row in await store.rows(since=0, limit=10_000) if row.request_id == request_id]
    return row


def tiered(*edges: int, volume: VolumeUnit = "tokens") -> Tariff:
    """A tariff whose prices halve from each edge on: the first at 8 a token, a picture and a call."""
    prices = [
        Prices(
            input_per_million=(8 >> step) * 1_000_000,
            output_per_million=(8 >> step) * 1_000_000,
            per_image=8 >> step if volume == "pictures" else 0,
            per_call=8 >> step if volume == "calls" else 0,
        )
        for step in range(len(edges) + 1)
    ]
    if volume != "tokens":
        prices = [replace(each, input_per_million=0, output_per_million=0) for each in prices]
    first = prices[0]
    return Tariff(
        input_per_million=first.input_per_million,
        output_per_million=first.output_per_million,
        per_image=first.per_image,
        per_call=first.per_call,
        tiers=tuple(Tier(edge, each) for edge, each in zip(edges, prices[1:], strict=True)),
        volume=volume,
    )


def a_tiered_attempt(tariff: Tariff, **changes: Any) -> AttemptRow:
    """An attempt priced as at the month's beginning, as a gateway hands it over."""
    counts = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "reasoning_tokens": 0, "image_count": 0}
    return an_attempt(tariff=tariff_json(tariff), cost_micros=0, **{**counts, **changes})
