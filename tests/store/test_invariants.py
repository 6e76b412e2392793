"""Whatever happens in whatever order, the sums agree with the rows. Sequences are drawn, run on one connection at the
level of what a commit does, and looked at after each commit.

Long: thousands of sequences take most of a minute, and fewer find less.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, field, replace
from itertools import product
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import StaticPool

from app.accounts.balances import Balance, Budget, TopUp
from app.accounts.interfaces import OPEN_STATES, AttemptRow, HoldOrder, HoldRefusal, LedgerRow
from app.accounts.usage import tariff_of, volume_units
from app.store.keys import SqlKeys
from app.store.ledger import balance_of, expire, hold, note, settle
from app.store.tables import metadata
from tests.store.requests import a_tiered_attempt, ended, held, noted, tiered

SEQUENCES = int(os.environ.get("TUWEN_SEQUENCES", "1000"))
DAYS = ("2025-11-29", "2025-11-30", "2025-12-01")
BUDGETS = (Budget(30, 12, 20), Budget(None, 15, None), Budget(25, None, 25))
KEYS = ("key_1", "key_2", "key_3")
LEASE = 3
TARIFF = tiered(20, 50)

T = TypeVar("T")


class OneConnection:
    """Stands for the database and for its writer: a change is made, and durable, in the moment it is handed over. It is
    read by statements of this test's own, which are fast, and say what is stored rather than what is reported."""

    dialect = "sqlite"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._driver: Any = engine.raw_connection().driver_connection
        self.writer = self

    async def apply(self, change: Callable[[Connection], T]) -> T:
        with self.commit() as connection:
            return change(connection)

    def commit(self) -> AbstractContextManager[Connection]:
        return self._engine.begin()

    def rows(self) -> dict[str, LedgerRow]:
        attempts = defaultdict(list)
        for request_id, *fields in self._all("SELECT * FROM attempts ORDER BY request_id, number"):
            attempts[request_id].append(AttemptRow(*fields))
        rows = [LedgerRow(*fields) for fields in self._all("SELECT * FROM ledger")]
        return {row.request_id: replace(row, attempts=tuple(attempts[row.request_id])) for row in rows}

    def balances(self) -> dict[str, Balance]:
        return {fields[0]: balance_of(fields) for fields in self._all("SELECT * FROM balances")}

    def volumes(self) -> dict[tuple[str, ...], int]:
        found = self._all("SELECT key_id, model, month, units FROM volumes WHERE units <> 0")
        return {(key_id, model, month): units for key_id, model, month, units in found}

    def begin_anew(self) -> None:
        with self.commit() as connection:
            for table in metadata.tables:
                connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - our own names
            budgets = [(f"key_{number}", *astuple(budget)) for number, budget in enumerate(BUDGETS, 1)]
            connection.exec_driver_sql(
                "INSERT INTO balances (key_id, credit_micros, day_limit_micros, month_limit_micros) "
                "VALUES (?, ?, ?, ?)",
                budgets,
            )

    def _all(self, statement: str) -> list[Any]:
        return self._driver.execute(statement).fetchall()  # type: ignore[no-any-return]  # the driver is untyped


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # the driver is untyped
    raise AssertionError("it waits")


@dataclass(frozen=True)
class Hold:
    request: int
    micros: int
    tiers: bool


@dataclass(frozen=True)
class Note:
    request: int
    cost_micros: int


@dataclass(frozen=True)
class End:
    request: int
    cost_micros: int
    twins: int


@dataclass(frozen=True)
class Credit:
    number: int
    micros: int


@dataclass(frozen=True)
class Commit:
    """What shares a commit, and how often that succeeds unheard before it is heard of. `days` go by before it; the
    clock of whoever holds may be `slow` by some."""

    works: list[Hold | Note | End]
    repeats: int
    days: int
    slow: int


Step = Commit | Credit | int  # a number: leases that run out then are swept

_REQUESTS, _MICROS = range(4), (0, 1, 3, 8, 12)
# All there is to draw, listed: drawing once is what makes so many sequences affordable.
_works: st.SearchStrategy[Hold | Note | End] = st.sampled_from(
    [
        *(Hold(request, micros, tiers) for request, micros, tiers in product(_REQUESTS, _MICROS, (False, True))),
        *(Note(request, micros) for request, micros in product(_REQUESTS, _MICROS)),
        *(End(request, micros, twins) for request, micros, twins in product(_REQUESTS, _MICROS, (0, 1))),
    ]
)
_ways = st.sampled_from([(0, 0, 0)] * 6 + [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 0), (0, 1, 1)])
_commits = st.builds(lambda works, ways: Commit(works, *ways), st.lists(_works, min_size=1, max_size=3), _ways)
_others: list[Step] = [*range(12), *(Credit(number, micros) for number, micros in product(range(4), (-3, 5)))]
_steps: st.SearchStrategy[Step] = st.integers(0, 4).flatmap(lambda kind: _commits if kind else st.sampled_from(_others))


@dataclass
class Gateway:
    """The requests as their gateway sees them, which does not hear of those that were closed as expired."""

    database: OneConnection
    now: int = 0
    day: int = 0
    open: dict[str, LedgerRow] = field(default_factory=dict)
    ended: dict[str, LedgerRow] = field(default_factory=dict)
    rows: dict[str, LedgerRow] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)

    def take(self, step: Step) -> None:
        match step:
            case Commit():
                self.day = min(self.day + step.days, len(DAYS) - 1)
                self._commit(step)
            case Credit():
                self._top_up(step)
            case int():
                self._sweep(step)

    def _commit(self, commit: Commit) -> None:
        orders = [self._order(work, commit) for work in commit.works if isinstance(work, Hold)]
        orders = list({order.row.request_id: order for order in orders if order is not None}.values())
        standing = self.open | {order.row.request_id: order.row for order in orders}
        notes = [self._noted(work, standing) for work in commit.works if isinstance(work, Note)]
        ends = [row for work in commit.works if isinstance(work, End) for row in self._ends(work, standing)]
        for _ in range(commit.repeats + 1):
            expected = _decided(self.rows, self.database.balances(), orders)
            with self.database.commit() as connection:
                refused = hold(connection, orders)
                note(connection, notes)
                settle(connection, ends)
            assert [_said(each) for each in refused] == expected
            self._heard(orders, refused, ends)
            self.agrees()
        self.now += 1

    def _order(self, work: Hold, commit: Commit) -> HoldOrder | None:
        request_id = f"r{work.request}"
        if request_id in self.ended:
            return None
        key_id, lease = KEYS[work.request % len(KEYS)], float(self.now + LEASE)
        day = DAYS[max(self.day - commit.slow, 0)]
        before = self.open.get(request_id)
        amounts = (work.micros,) if before is None else (before.hold_micros, work.micros)
        fresh = held(request_id, *amounts, key_id=key_id, day=day, lease_until=lease)
        if work.tiers:
            attempts = tuple(a_tiered_attempt(TARIFF, number=each.number) for each in fresh.attempts)
            fresh = replace(fresh, attempts=attempts)
        if before is None:
            return HoldOrder(fresh, work.micros)
        if len(before.attempts) > 1:
            return None
        row = replace(fresh, state=before.state, day=before.day, attempts=(*before.attempts, fresh.attempts[-1]))
        return HoldOrder(row, work.micros)

    def _noted(self, work: Note, standing: dict[str, LedgerRow]) -> list[LedgerRow]:
        row = standing.get(f"r{work.request}")
        return [] if row is None else [noted(row, work.cost_micros, lease_until=float(self.now + LEASE))]

    def _ends(self, work: End, standing: dict[str, LedgerRow]) -> list[LedgerRow]:
        """The end of a request under way, or once more of one that has ended; of one never held as well."""
        request_id = f"r{work.request}"
        fresh = held(request_id, key_id=KEYS[work.request % len(KEYS)], day=DAYS[self.day])
        row = self.ended.get(request_id) or standing.get(request_id) or fresh
        tokens = {"input_tokens": 10, "output_tokens": work.cost_micros, "cached_tokens": 0, "image_count": 0}
        return [ended(row, work.cost_micros, **tokens)] * (1 + work.twins)

    def _heard(self, orders: list[HoldOrder], refused: Sequence[object], ends: list[LedgerRow]) -> None:
        for order, refusal in zip(orders, refused, strict=True):
            if refusal is None:
                self.open[order.row.request_id] = order.row
                self.stored.add(order.row.request_id)
        for row in ends:
            self.open.pop(row.request_id, None)
            self.ended[row.request_id] = row
            self.stored.add(row.request_id)

    def _top_up(self, credit: Credit) -> None:
        key_id = KEYS[credit.number % len(KEYS)]
        for _ in range(1 + credit.micros % 2):
            keys = SqlKeys(self.database)  # type: ignore[arg-type] # one connection stands in for it
            at_once(keys.top_up(TopUp(f"t{credit.number}", key_id, 0.0, credit.micros)))
        self.agrees()

    def _sweep(self, later: int) -> None:
        self.now += later
        with self.database.commit() as connection:
            expire(connection, float(self.now))
        self.agrees()

    def agrees(self) -> None:
        """The sums say what the rows say, and no row was lost or doubled."""
        rows = self.rows = self.database.rows()
        assert rows.keys() == self.stored
        for balance in self.database.balances().values():
            theirs = [row for row in rows.values() if row.key_id == balance.key_id]
            closed = [row for row in theirs if row.state not in OPEN_STATES]
            assert balance.spent_micros == sum(row.cost_micros for row in closed)
            assert balance.held_micros == sum(row.hold_micros for row in theirs)
            assert not any(row.hold_micros for row in closed)
            assert balance.day_micros == sum(_counted(row) for row in theirs if row.day == balance.day)
            in_month = [row for row in theirs if row.day[:7] == balance.day[:7]]
            assert balance.month_micros == sum(map(_counted, in_month))
        assert self.database.volumes() == _volumes_of(rows.values())


def _counted(row: LedgerRow) -> int:
    return row.hold_micros if row.state in OPEN_STATES else row.cost_micros


def _said(result: object) -> str:
    if result is None:
        return "granted"
    return "refused" if isinstance(result, HoldRefusal) else "closed"


def _volumes_of(rows: Iterable[LedgerRow]) -> dict[tuple[str, ...], int]:
    volumes: dict[tuple[str, ...], int] = defaultdict(int)
    for row in rows:
        for attempt in row.attempts if row.state not in OPEN_STATES else ():
            tariff = tariff_of(attempt.tariff)
            if tariff is not None and tariff.tiers:
                volumes[row.key_id, attempt.model, row.day[:7]] += volume_units(attempt, tariff)
    return {place: units for place, units in volumes.items() if units}


def _decided(rows: dict[str, LedgerRow], balances: dict[str, Balance], orders: list[HoldOrder]) -> list[str]:
    """How holds are to be decided, one after the other: money is set aside if the rows, with it, keep within all
    bounds; what is free always is."""
    decided = []
    for order in orders:
        stored, balance = rows.get(order.row.request_id), balances[order.row.key_id]
        decided.append(_decision(order, stored))
        if not decided[-1]:
            day = max(balance.day, stored.day if stored is not None else order.row.day)
            with_it = rows | {order.row.request_id: replace(order.row, day=day)}
            decided[-1] = "granted" if _is_within(balance, day, with_it.values()) else "refused"
            if decided[-1] == "granted":
                rows, balances[balance.key_id] = with_it, replace(balance, day=day)
    return decided


def _decision(order: HoldOrder, stored: LedgerRow | None) -> str:
    if stored is not None and stored.state not in OPEN_STATES:
        return "closed"
    heard = stored is not None and len(stored.attempts) >= len(order.row.attempts)
    return "granted" if heard or not order.micros else ""


def _is_within(balance: Balance, day: str, rows: Iterable[LedgerRow]) -> bool:
    theirs = [row for row in rows if row.key_id == balance.key_id]
    sums = (
        (balance.budget.total_micros, theirs),
        (balance.budget.day_micros, [row for row in theirs if row.day == day]),
        (balance.budget.month_micros, [row for row in theirs if row.day[:7] == day[:7]]),
    )
    return all(bound is None or sum(map(_counted, counted)) <= bound for bound, counted in sums)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@settings(max_examples=SEQUENCES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_steps, min_size=1, max_size=8))
def test_sums_agree_with_the_rows_whatever_happens(engine: Engine, steps: list[Step]) -> None:
    database = OneConnection(engine)
    database.begin_anew()
    gateway = Gateway(database)
    for step in steps:
        gateway.take(step)
