"""Rows of gateways that died are closed by the rule; those of gateways that live are not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.accounts.balances import Budget
from app.accounts.interfaces import Caller, HoldOrder, KeyRecord, LedgerRow
from app.core.clock import Clock
from app.gateway.accounting import LEASE_S
from app.gateway.books import Books
from app.store.journal import FILE_NAME
from app.store.sql import SqlStore
from tests.accounts.records import a_row, an_attempt

CALLER = Caller("key_000000000001", "somebody", admin=False)
NOW = 1_795_900_000.0


@dataclass
class Hands:
    """A clock whose hands the test moves."""

    at: float = NOW


@dataclass(eq=False)
class Running:
    """A request as its gateway sees it."""

    row: LedgerRow
    hands: Hands
    is_stored: bool = True

    def standing(self) -> LedgerRow:
        return replace(self.row, lease_until=self.hands.at + LEASE_S)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def clock(hands: Hands) -> Clock:
    return Clock(now=lambda: hands.at)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(tmp_path / "tuwen.db")
    record = KeyRecord(CALLER.key_id, "somebody", "d", admin=False, created_at=NOW)
    await store.add_key(record, Budget(1_000_000))
    yield store
    await store.aclose()


async def opened(store: SqlStore, request_id: str, *, dispatched: bool, noted_micros: int = 0) -> LedgerRow:
    """An open row, with money set aside, whose lease ends `LEASE_S` after the test's begin."""
    row = a_row(
        request_id=request_id,
        key_id=CALLER.key_id,
        started_at=NOW,
        state="dispatched" if dispatched else "held",
        outcome="running",
        hold_micros=500,
        cost_micros=noted_micros,
        day="2026-11-28",
        lease_until=NOW + LEASE_S,
        attempts=(an_attempt(outcome="running", cost_micros=noted_micros),),
    )
    assert await store.hold(HoldOrder(row, 500)) is None
    return row


async def row_of(store: SqlStore, request_id: str) -> LedgerRow:
    return next(row for row in await store.rows(since=0, limit=100) if row.request_id == request_id)


async def test_row_of_a_dead_gateway_is_paid_as_it_last_stood(store: SqlStore, clock: Clock, hands: Hands) -> None:
    await opened(store, "asked", dispatched=True, noted_micros=120)
    await opened(store, "waiting", dispatched=False)
    books = Books(store, clock)
    hands.at += LEASE_S + 1
    await books.sweep()
    asked, waiting = await row_of(store, "asked"), await row_of(store, "waiting")
    assert (asked.state, asked.outcome, asked.cost_micros, asked.hold_micros) == ("expired", "lost", 120, 0)
    assert (waiting.state, waiting.cost_micros) == ("expired", 0)
    balance = await store.balance(CALLER.key_id)
    assert balance is not None
    assert (balance.spent_micros, balance.held_micros) == (120, 0)


async def test_row_of_a_living_gateway_stays_open_however_long(store: SqlStore, clock: Clock, hands: Hands) -> None:
    books, others = Books(store, clock), Books(store, clock)
    running = Running(await opened(store, "long", dispatched=True), hands)
    books.opened(running)
    for _ in range(10):
        hands.at += LEASE_S - 1
        await books.sweep()
        await others.sweep()
    assert (await row_of(store, "long")).state == "dispatched"
    books.closed(running)
    hands.at += LEASE_S + 1
    await others.sweep()
    assert (await row_of(store, "long")).state == "expired"


async def test_what_passed_is_noted_while_a_request_runs(store: SqlStore, clock: Clock, hands: Hands) -> None:
    row = await opened(store, "long", dispatched=True)
    grown = replace(row, cost_micros=300, output_tokens=25)
    books = Books(store, clock)
    books.opened(Running(grown, hands))
    await books.sweep()
    noted = await row_of(store, "long")
    assert (noted.cost_micros, noted.output_tokens, noted.lease_until) == (300, 25, NOW + LEASE_S)


async def test_our_own_leases_come_first_after_an_outage(store: SqlStore, clock: Clock, hands: Hands) -> None:
    books = Books(store, clock)
    books.opened(Running(await opened(store, "ours", dispatched=True), hands))
    hands.at += 10 * LEASE_S
    await books.sweep()
    assert (await row_of(store, "ours")).state == "dispatched"


async def test_rows_that_waited_in_the_journal_are_booked(store: SqlStore, clock: Clock, tmp_path: Path) -> None:
    row = await opened(store, "late", dispatched=True)
    done = replace(row, state="settled", outcome="finished", cost_micros=77, hold_micros=0, lease_until=None)
    store._journal.keep(done, OSError("the database was away"))
    assert (tmp_path / FILE_NAME).exists()
    await Books(store, clock).sweep()
    assert (await row_of(store, "late")).cost_micros == 77
    assert not list(tmp_path.glob(f"{FILE_NAME}*"))
