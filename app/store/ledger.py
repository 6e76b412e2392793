"""Holds, settlements, and balances that are the sum of both.

Every way of closing a row ends in `_close`. What it and `hold` keep, for every key and at every commit:

    balances.spent_micros = the cost of its rows that are closed
    balances.held_micros  = what is set aside by its rows that are open

Whoever touches balances locks all of them first, in the order of the keys' ids: SQLite's write lock does that, Postgres
is asked to. So no two writers can wait for each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection
from typing_extensions import override

from app.accounts.balances import Balance, Budget
from app.accounts.interfaces import OPEN_STATES, AttemptRow, HoldOrder, HoldRefusal, Ledger, LedgerRow, RowState
from app.accounts.usage import has_tiers, tariff_of, volume_units, with_attempts, with_volume
from app.core.errors import RecordsUnavailable
from app.store.cursor import Cursor, cursor_of
from app.store.database import Database
from app.store.journal import Journal
from app.store.tables import attempts, ledger

_EXPIRED_AT_ONCE = 500
_OPEN = "state IN ('held', 'dispatched')"

_ROW_COLUMNS = tuple(ledger.columns.keys())
_ATTEMPT_COLUMNS = tuple(attempts.columns.keys())
_request_id = attrgetter("request_id")
_row_values = attrgetter(*_ROW_COLUMNS)
_attempt_values = attrgetter(*_ATTEMPT_COLUMNS[1:])


def _upsert(table: str, columns: Sequence[str], key: Sequence[str], fixed: Sequence[str]) -> str:
    """Stores a row, or changes the one there is in all but what never changes: SQLite writes the index of a column that
    is set anew, though it is set to what it was."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in {*key, *fixed})
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "  # noqa: S608 - our own names
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changed}"
    )


_PUT_ROW = _upsert("ledger", _ROW_COLUMNS, ["request_id"], ["started_at", "key_id", "model", "stream"])
_PUT_ATTEMPT = _upsert("attempts", _ATTEMPT_COLUMNS, ["request_id", "number"], ["model", "backend", "backend_model"])

_LOCK = "SELECT key_id FROM balances WHERE key_id IN (*) ORDER BY key_id FOR UPDATE"

# The one statement that decides. A day that has passed counts for nothing; a request whose own day has passed counts on
# the newer one from now on, with all that was set aside for it. An attempt that is stored already was decided before:
# its commit succeeded unheard.
_SET_ASIDE = """
UPDATE balances SET
    held_micros = held_micros + ?,
    day_micros = CASE WHEN day >= ? THEN day_micros ELSE 0 END + CASE WHEN day > ? THEN ? ELSE ? END,
    month_micros = CASE WHEN substr(day, 1, 7) >= ? THEN month_micros ELSE 0 END
        + CASE WHEN substr(day, 1, 7) > ? THEN ? ELSE ? END,
    day = CASE WHEN day >= ? THEN day ELSE ? END
WHERE key_id = ?
  AND (credit_micros IS NULL OR credit_micros - spent_micros - held_micros >= ?)
  AND (day_limit_micros IS NULL
       OR day_limit_micros - CASE WHEN day >= ? THEN day_micros ELSE 0 END >= CASE WHEN day > ? THEN ? ELSE ? END)
  AND (month_limit_micros IS NULL
       OR month_limit_micros - CASE WHEN substr(day, 1, 7) >= ? THEN month_micros ELSE 0 END
          >= CASE WHEN substr(day, 1, 7) > ? THEN ? ELSE ? END)
  AND NOT EXISTS (SELECT 1 FROM attempts WHERE request_id = ? AND number = ?)
RETURNING day"""
_HELD_BEFORE = "SELECT 1 FROM attempts WHERE request_id = ? AND number = ?"
_BALANCE = (
    "SELECT key_id, credit_micros, day_limit_micros, month_limit_micros, spent_micros, held_micros, day, day_micros, "
    "month_micros FROM balances WHERE key_id = ?"
)
_NEW_BALANCE = "INSERT INTO balances (key_id) VALUES (?) ON CONFLICT DO NOTHING"

_STATES = "SELECT request_id, state, hold_micros, cost_micros, day FROM ledger WHERE request_id IN (*)"
_BOOK = """
UPDATE balances SET
    spent_micros = spent_micros + ?,
    held_micros = held_micros + ?,
    day_micros = CASE WHEN day > ? THEN day_micros WHEN day = ? THEN day_micros + ? ELSE ? END,
    month_micros = CASE WHEN substr(day, 1, 7) > ? THEN month_micros
        WHEN substr(day, 1, 7) = ? THEN month_micros + ? ELSE ? END,
    day = CASE WHEN day > ? THEN day ELSE ? END
WHERE key_id = ?"""

_NOTED = (
    "state",
    "lease_until",
    "queued_ms",
    "input_tokens",
    "output_tokens",
    "image_count",
    "usage_source",
    "cost_micros",
)
_NOTE_ROW = f"UPDATE ledger SET {', '.join(f'{name} = ?' for name in _NOTED)} WHERE request_id = ? AND {_OPEN}"  # noqa: S608 - our own names
_NOTED_OF_ATTEMPT = (
    "backend_request_id",
    "input_tokens",
    "output_tokens",
    "image_count",
    "usage_source",
    "cost_micros",
)
_NOTE_ATTEMPT = (
    f"UPDATE attempts SET {', '.join(f'{name} = ?' for name in _NOTED_OF_ATTEMPT)} "  # noqa: S608 - our own names
    f"WHERE request_id = ? AND number = ? AND EXISTS (SELECT 1 FROM ledger WHERE request_id = ? AND {_OPEN})"
)
_noted = attrgetter(*_NOTED)
_noted_of_attempt = attrgetter(*_NOTED_OF_ATTEMPT)

_OVERDUE = f"SELECT request_id, key_id FROM ledger WHERE {_OPEN} AND lease_until < ? ORDER BY lease_until LIMIT ?"  # noqa: S608 - our own words
_ROWS = f"SELECT {', '.join(_ROW_COLUMNS)} FROM ledger WHERE request_id IN (*)"  # noqa: S608 - our own names
_ATTEMPTS = f"SELECT {', '.join(_ATTEMPT_COLUMNS)} FROM attempts WHERE request_id IN (*) ORDER BY request_id, number"  # noqa: S608 - our own names

_ADD_VOLUME = (
    "INSERT INTO volumes (key_id, model, month, units) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (key_id, model, month) DO UPDATE SET units = volumes.units + excluded.units RETURNING units"
)


class _Stored(NamedTuple):
    """What is known of a row by a look at the table."""

    state: RowState
    hold_micros: int
    cost_micros: int
    day: str


def lock_balances(connection: Connection, works: Sequence[HoldOrder | LedgerRow]) -> None:
    """Locks the balances of all that will be held and settled in a commit, before anything of it is done."""
    with cursor_of(connection) as cursor:
        _lock(cursor, (work.row.key_id if isinstance(work, HoldOrder) else work.key_id for work in works))


def hold(connection: Connection, orders: Sequence[HoldOrder]) -> list[HoldRefusal | RecordsUnavailable | None]:
    """Sets money aside for each, or says what does not carry it. Many at once; each sees those before it. A request
    that was closed meanwhile, for its gateway was not heard of, gets nothing more."""
    with cursor_of(connection) as cursor:
        stored = _states(cursor, [order.row.request_id for order in orders])
        closed = {request_id for request_id, row in stored.items() if row.state not in OPEN_STATES}
        standing = [_on_its_day(order, stored) for order in orders if order.row.request_id not in closed]
        decided = iter(_decided(cursor, standing))
        outcomes = [_too_late() if order.row.request_id in closed else next(decided) for order in orders]
        _put(cursor, [outcome for outcome in outcomes if isinstance(outcome, LedgerRow)])
    return [None if isinstance(outcome, LedgerRow) else outcome for outcome in outcomes]


def _states(cursor: Cursor, request_ids: Sequence[str]) -> dict[str, _Stored]:
    return {request_id: _Stored(*found) for request_id, *found in cursor.one_of(_STATES, request_ids)}


def _on_its_day(order: HoldOrder, stored: Mapping[str, _Stored]) -> HoldOrder:
    """The order, on the day on which its request counts so far."""
    before = stored.get(order.row.request_id)
    return order if before is None else replace(order, row=_on_day(order.row, before.day))


def _on_day(row: LedgerRow, day: str) -> LedgerRow:
    return row if row.day == day else replace(row, day=day)


def _too_late() -> RecordsUnavailable:
    return RecordsUnavailable(detail="its row was closed as expired: the gateway was not heard of for too long")


def _decided(cursor: Cursor, orders: Sequence[HoldOrder]) -> list[LedgerRow | HoldRefusal]:
    """The row of each that money was set aside for, on the day it counts on now. What is free needs no balance."""
    days = iter(cursor.each(_SET_ASIDE, [_parameters(order) for order in orders if order.micros]))
    found = [next(days) if order.micros else (order.row.day,) for order in orders]
    return [
        _refusal(cursor, order) if day is None else _on_day(order.row, day[0])
        for order, day in zip(orders, found, strict=True)
    ]


def _parameters(order: HoldOrder) -> tuple[Any, ...]:
    micros, day, month = order.micros, order.row.day, order.row.day[:7]
    on_day = (day, day, order.row.hold_micros, micros)
    on_month = (month, month, order.row.hold_micros, micros)
    aside = (micros, *on_day, *on_month, day, day)
    return (
        *aside, order.row.key_id, micros, *on_day, *on_month, order.row.request_id, order.row.attempts[-1].number
    )  # fmt: skip


def _refusal(cursor: Cursor, order: HoldOrder) -> LedgerRow | HoldRefusal:
    """Why the statement changed nothing; the row where money was set aside after all."""
    if cursor.all(_HELD_BEFORE, (order.row.request_id, order.row.attempts[-1].number)):
        return order.row
    found = cursor.all(_BALANCE, (order.row.key_id,))
    balance, day = balance_of(found[0]) if found else Balance(order.row.key_id), order.row.day
    span = balance.exhausted_span(day, order.micros) or balance.exhausted_span(day, order.row.hold_micros)
    if span is None:  # a key that had no balance, as none of ours is: it has no bounds
        cursor.many(_NEW_BALANCE, [(order.row.key_id,)])
        return _decided(cursor, [order])[0]
    return HoldRefusal(span, balance.left_micros(day) or 0)


def settle(connection: Connection, rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """Closes each, which holds nothing more; one closed before stays as it is, but for one that was given up as
    expired."""
    with cursor_of(connection) as cursor:
        return _close(cursor, rows, reopens=("held", "dispatched", "expired"))


def settle_kept(connection: Connection, rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """The same of rows that are in the journal: what cannot be written stays there, and is not kept anew."""
    return settle(connection, rows)


def note(connection: Connection, notes: Sequence[Sequence[LedgerRow]]) -> list[None]:
    """Stores open rows as they stand."""
    rows = sorted((row for noted in notes for row in noted), key=_request_id)  # as all lock rows, in one order
    with cursor_of(connection) as cursor:
        cursor.many(_NOTE_ROW, [(*_noted(row), row.request_id) for row in rows])
        cursor.many(
            _NOTE_ATTEMPT,
            [
                (*_noted_of_attempt(attempt), row.request_id, attempt.number, row.request_id)
                for row in rows
                for attempt in row.attempts[-1:]
            ],
        )
    return [None] * len(notes)


def expire(connection: Connection, now: float) -> int:
    """Closes open rows whose lease ran out, as they last stood; how many."""
    with cursor_of(connection) as cursor:
        overdue = cursor.all(_OVERDUE, (now, _EXPIRED_AT_ONCE))
        if not overdue:
            return 0
        _lock(cursor, (key_id for _, key_id in overdue))
        # looked at again behind the lock: its gateway may have come back
        rows = [row for row in _stored(cursor, [request_id for request_id, _ in overdue]) if _is_overdue(row, now)]
        _close(cursor, [_expired(row) for row in rows], reopens=OPEN_STATES)
    return len(rows)


def _is_overdue(row: LedgerRow, now: float) -> bool:
    return row.state in OPEN_STATES and row.lease_until is not None and row.lease_until < now


def _expired(row: LedgerRow) -> LedgerRow:
    lost = [replace(each, outcome="lost") if each.outcome == "running" else each for each in row.attempts]
    closed = replace(row, state="expired", outcome="lost", error_code="gateway_lost", attempts=tuple(lost))
    return replace(closed, hold_micros=0, lease_until=None)


@dataclass(slots=True)
class _Change:
    """What closing does to the balance of a key, for rows of one day."""

    spent_micros: int = 0
    held_micros: int = 0


def _close(cursor: Cursor, rows: Sequence[LedgerRow], *, reopens: Sequence[str]) -> list[LedgerRow]:
    """Closes rows whose balances are locked.

    Args:
        reopens: the states a stored row may be in; one in another stays as it is.
    """
    stored = _states(cursor, [row.request_id for row in rows])
    changes: dict[tuple[str, str], _Change] = defaultdict(_Change)
    closed: dict[str, LedgerRow] = {}
    results = []
    for row in rows:
        before = stored.get(row.request_id, _Stored("held", 0, 0, row.day))
        if before.state not in reopens or row.request_id in closed:  # a twin in the same batch changes nothing
            results.append(closed.get(row.request_id) or _stored(cursor, [row.request_id])[0])
            continue
        booked_micros = 0
        if before.state == "expired":
            booked_micros = before.cost_micros
            _take_volume_back(cursor, row)
        done = _priced(cursor, _on_day(row, before.day))
        change = changes[row.key_id, done.day]
        change.spent_micros += done.cost_micros - booked_micros
        change.held_micros -= before.hold_micros
        closed[row.request_id] = done
        results.append(done)
    _put(cursor, list(closed.values()))
    cursor.many(_BOOK, [_booking(key_id, day, changes[key_id, day]) for key_id, day in sorted(changes)])
    return results


def _booking(key_id: str, day: str, change: _Change) -> tuple[Any, ...]:
    both = change.spent_micros + change.held_micros
    month = day[:7]
    return (
        change.spent_micros, change.held_micros, day, day, both, both, month, month, both, both, day, day, key_id
    )  # fmt: skip


def _priced(cursor: Cursor, row: LedgerRow) -> LedgerRow:
    """The row with the prices that its place in the month's volume has, where its tariff has tiers."""
    if not any(map(has_tiers, row.attempts)):
        return row
    priced = []
    for attempt in row.attempts:
        tariff = tariff_of(attempt.tariff)
        units = volume_units(attempt, tariff) if tariff is not None and tariff.tiers else 0
        if tariff is None or not units:
            priced.append(attempt)
            continue
        ((now,),) = cursor.all(_ADD_VOLUME, (row.key_id, attempt.model, row.day[:7], units))
        priced.append(with_volume(attempt, tariff, now - units))
    return with_attempts(row, priced)


def _take_volume_back(cursor: Cursor, row: LedgerRow) -> None:
    """What expiring added to the month's volume: the row is priced anew."""
    for stored in _stored(cursor, [row.request_id]):
        for attempt in filter(has_tiers, stored.attempts):
            tariff = tariff_of(attempt.tariff)
            units = volume_units(attempt, tariff) if tariff is not None else 0
            cursor.all(_ADD_VOLUME, (stored.key_id, attempt.model, stored.day[:7], -units))


def _lock(cursor: Cursor, key_ids: Iterable[str]) -> None:
    if cursor.postgres:
        cursor.one_of(_LOCK, sorted(set(key_ids)))


def _put(cursor: Cursor, rows: Sequence[LedgerRow]) -> None:
    rows = sorted(rows, key=_request_id)
    cursor.many(_PUT_ROW, [_row_values(row) for row in rows])
    cursor.many(_PUT_ATTEMPT, [(row.request_id, *_attempt_values(each)) for row in rows for each in row.attempts])


def _stored(cursor: Cursor, request_ids: Sequence[str]) -> list[LedgerRow]:
    theirs: dict[str, list[AttemptRow]] = defaultdict(list)
    for request_id, *fields in cursor.one_of(_ATTEMPTS, request_ids):
        theirs[request_id].append(AttemptRow(*fields))
    found = cursor.one_of(_ROWS, request_ids)
    return [replace(LedgerRow(*fields), attempts=tuple(theirs[fields[0]])) for fields in found]


def balance_of(found: Sequence[Any]) -> Balance:
    """A row of the table `balances`, its columns in their order."""
    key_id, credit, day_limit, month_limit, *sums = found
    return Balance(key_id, Budget(credit, day_limit, month_limit), *sums)


class SqlLedger(Ledger):
    """The ledger. What cannot be written when a request ends goes into the journal, and from there into the ledger."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._database = database
        self._journal = journal
        database.writer.begin_with(lock_balances, (hold, settle, settle_kept))

    @property
    def commits(self) -> int:
        """How many commits were made so far; with the number of rows it tells how well they share."""
        return self._database.writer.commits

    @override
    async def hold(self, order: HoldOrder) -> HoldRefusal | None:
        refusal: HoldRefusal | None = await self._database.writer.add(hold, order)
        return refusal

    @override
    async def note(self, rows: Sequence[LedgerRow]) -> None:
        if rows:
            await self._database.writer.add(note, rows)

    @override
    async def settle(self, row: LedgerRow) -> LedgerRow:
        booked: LedgerRow = await self._database.writer.add(settle, row)
        return booked

    @override
    async def expire(self, now: float) -> int:
        return await self._database.writer.apply(lambda connection: expire(connection, now))

    @override
    async def replay(self) -> int:
        return await self._journal.replay(lambda row: self._database.writer.add(settle_kept, row))
