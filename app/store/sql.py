"""Keys and ledger in one SQLite file. Writes share the commits of one thread; reads run beside it and never wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    UpdateBase,
    and_,
    case,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DatabaseError
from typing_extensions import override

from app.accounts.interfaces import (
    AttemptRow,
    KeyRecord,
    KeyStore,
    Ledger,
    LedgerRow,
    UsageGrouping,
    UsageSummary,
)
from app.accounts.usage import NO_TARIFF
from app.core.errors import InternalError
from app.store.engine import prepare_file, sqlite_engine
from app.store.tables import attempts, keys, ledger
from app.store.writer import GroupWriter

_T = TypeVar("_T")

DATABASE_NAME = "tuwen.db"
_READERS = 4

# A request is booked once: a second row of its id is dropped, and so are its attempts.
_INSERT_ROW = str(sqlite.insert(ledger).on_conflict_do_nothing().compile(dialect=sqlite.dialect(paramstyle="qmark")))
_row_values = attrgetter(*ledger.columns.keys())
_INSERT_ATTEMPT = str(
    sqlite.insert(attempts).on_conflict_do_nothing().compile(dialect=sqlite.dialect(paramstyle="qmark"))
)
_attempt_values = attrgetter(*attempts.columns.keys()[1:])

# Days are those of the clock on the wall where this process runs (TZ), not of UTC: bills are read by people.
_GROUPS: dict[UsageGrouping, ColumnElement[str]] = {
    "day": func.date(ledger.c.started_at, "unixepoch", "localtime"),
    "model": ledger.c.model,
    "key": case((keys.c.name.is_(None), ledger.c.key_id), else_=ledger.c.key_id + " " + keys.c.name),
}


class SqlStore(KeyStore, Ledger):
    """The store of a single machine. Several processes may open the same file.

    Use `SqlStore.open`, and `aclose` when done.
    """

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self._engines = (writing, reading)
        self._reading = reading
        self._writer = GroupWriter(writing, _INSERT_ROW, _INSERT_ATTEMPT)
        # Threads of its own: looking up a key must not queue behind somebody's pictures.
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="tuwen-reader")

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Opens the file, and makes it where there is none.

        Raises:
            StoreUnusable: it cannot be made or read, is no database, is locked, or a newer program wrote it.
        """
        writing = sqlite_engine(path, "write")
        await asyncio.to_thread(prepare_file, path, writing)
        return cls(writing, sqlite_engine(path, "read"))

    async def aclose(self) -> None:
        """Writes what was handed over, then lets go of the file."""
        await self._writer.aclose()
        await asyncio.to_thread(self._readers.shutdown)
        for engine in self._engines:
            engine.dispose()

    @property
    def commits(self) -> int:
        """How many commits were made so far; with the number of rows it tells how well they share."""
        return self._writer.commits

    @override
    async def settle(self, row: LedgerRow) -> None:
        request_id = row.request_id
        children = tuple([(request_id, *_attempt_values(attempt)) for attempt in row.attempts])
        await self._writer.add(_row_values(row), children)

    @override
    async def rows(self, *, since: float, limit: int) -> Sequence[LedgerRow]:
        newest_first = (ledger.c.started_at.desc(), ledger.c.request_id.desc())
        wanted = select(ledger).where(ledger.c.started_at >= since).order_by(*newest_first).limit(limit)
        theirs = (
            select(attempts)
            .where(attempts.c.request_id.in_(wanted.with_only_columns(ledger.c.request_id)))
            .order_by(attempts.c.request_id, attempts.c.number)
        )

        def query(connection: Connection) -> list[LedgerRow]:
            by_request = {
                request_id: tuple(AttemptRow(*row[1:]) for row in group)
                for request_id, group in groupby(connection.execute(theirs), itemgetter(0))
            }
            rows = [LedgerRow(*row) for row in connection.execute(wanted)]
            return [replace(row, attempts=by_request.get(row.request_id, ())) for row in rows]

        return await self._read(query)

    @override
    async def summary(self, by: UsageGrouping, *, since: float) -> Sequence[UsageSummary]:
        used = ledger.c.input_tokens + ledger.c.output_tokens + ledger.c.image_count > 0
        group = _GROUPS[by].label("group")
        statement = (
            select(
                group,
                func.count(),
                func.sum(_one_if(ledger.c.outcome == "failed")),
                func.sum(ledger.c.input_tokens),
                func.sum(ledger.c.output_tokens),
                func.sum(ledger.c.image_count),
                func.sum(ledger.c.cost_micros),
                func.sum(_one_if(and_(ledger.c.tariff == NO_TARIFF, used))),
            )
            .select_from(ledger.outerjoin(keys, keys.c.id == ledger.c.key_id) if by == "key" else ledger)
            .where(ledger.c.started_at >= since)
            .group_by(group)
            .order_by(group)
        )
        return await self._read(lambda connection: [UsageSummary(*row) for row in connection.execute(statement)])

    @override
    async def key_by_digest(self, digest: str) -> KeyRecord | None:
        return await self._key(keys.c.digest == digest)

    @override
    async def key_by_id(self, key_id: str) -> KeyRecord | None:
        return await self._key(keys.c.id == key_id)

    async def _key(self, condition: ColumnElement[bool]) -> KeyRecord | None:
        statement = select(keys).where(condition)
        row = await self._read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else KeyRecord(*row)

    @override
    async def keys(self) -> Sequence[KeyRecord]:
        statement = select(keys).order_by(keys.c.created_at, keys.c.id)
        return await self._read(lambda connection: [KeyRecord(*row) for row in connection.execute(statement)])

    @override
    async def add_key(self, record: KeyRecord) -> None:
        await self._changed_rows(insert(keys).values(asdict(record)))

    @override
    async def add_first_key(self, record: KeyRecord) -> bool:
        # One statement, so that two processes that start together cannot both see an empty table.
        values = asdict(record)
        source = select(*(literal(value, keys.c[name].type) for name, value in values.items())).where(
            ~exists(select(keys.c.id))
        )
        return await self._changed_rows(insert(keys).from_select(list(values), source)) == 1

    @override
    async def revoke_key(self, key_id: str, revoked_at: float) -> bool:
        return await self._changed_rows(update(keys).where(_live(key_id)).values(revoked_at=revoked_at)) == 1

    @override
    async def renew_vendor_secret(self, key_id: str) -> int | None:
        next_version = (
            update(keys)
            .where(_live(key_id))
            .values(vendor_version=keys.c.vendor_version + 1)
            .returning(keys.c.vendor_version)
        )
        return await self._writer.apply(lambda connection: connection.execute(next_version).scalar_one_or_none())

    async def _changed_rows(self, statement: UpdateBase) -> int:
        return await self._writer.apply(lambda connection: connection.execute(statement).rowcount)

    async def _read(self, query: Callable[[Connection], _T]) -> _T:
        """Runs a query beside the event loop, on one snapshot of the file.

        Raises:
            InternalError: the file cannot be read.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, query)
        except DatabaseError as error:
            raise InternalError("The gateway cannot read its records at the moment. Try again later.") from error

    def _query(self, query: Callable[[Connection], _T]) -> _T:
        with self._reading.begin() as connection:
            return query(connection)


def _live(key_id: str) -> ColumnElement[bool]:
    return and_(keys.c.id == key_id, keys.c.revoked_at.is_(None))


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)
