"""What was booked, read for people. Nothing here is asked while a request waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union_all,
)
from typing_extensions import override

from app.accounts.interfaces import AttemptRow, LedgerRow, UsageGrouping, UsageSummary
from app.accounts.reports import EVERYTHING, AskedOnce, Mark, Only, Reports
from app.accounts.usage import NO_TARIFF
from app.store.database import Database
from app.store.engine import READERS
from app.store.tables import attempts, keys, ledger

_T = TypeVar("_T")

_NEWEST_FIRST = (ledger.c.started_at.desc(), ledger.c.request_id.desc())
_SUMMED = ("input_tokens", "output_tokens", "image_count", "cost_micros")


class SqlReports(Reports):
    """Sums and rows of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A report may read for seconds: some readers stay free for the keys of requests.
        self._at_once = asyncio.Semaphore(READERS // 2)

    async def _read(self, query: Callable[[Connection], _T]) -> _T:
        async with self._at_once:
            return await self._database.read(query)

    @override
    async def rows(
        self, *, since: float, limit: int, only: Only = EVERYTHING, after: Mark | None = None
    ) -> Sequence[LedgerRow]:
        wanted = select(ledger).where(*_conditions(since, only)).order_by(*_NEWEST_FIRST).limit(limit)
        if after is not None:
            place = tuple_(ledger.c.started_at, ledger.c.request_id)
            wanted = wanted.where(ledger.c.started_at <= after.started_at)  # what the index finds
            wanted = wanted.where(place < tuple_(literal(after.started_at), literal(after.request_id)))
        return await self._read(lambda connection: _with_attempts(connection, wanted))

    @override
    async def row(self, request_id: str) -> LedgerRow | None:
        wanted = select(ledger).where(ledger.c.request_id == request_id)
        return next(iter(await self._read(lambda connection: _with_attempts(connection, wanted))), None)

    @override
    async def summary(self, by: UsageGrouping, *, since: float, only: Only = EVERYTHING) -> Sequence[UsageSummary]:
        what = self._asked_backends(since, only) if by == "backend" else self._requests(by, since, only)
        each = what.subquery()
        statement = (
            select(
                each.c.group,
                func.count(),
                func.sum(_one_if(each.c.outcome == "failed")),
                func.sum(each.c.input_tokens),
                func.sum(each.c.output_tokens),
                func.sum(each.c.image_count),
                cast(func.sum(each.c.cost_micros), ledger.c.cost_micros.type),
                func.sum(_one_if(_is_unpriced(each.c))),
            )
            .group_by(text("1"))
            .order_by(text("1"))
        )
        return await self._read(lambda connection: [UsageSummary(*row) for row in connection.execute(statement)])

    def _requests(self, by: UsageGrouping, since: float, only: Only) -> Select[Any]:
        """A row for each request, with its group."""
        match by:
            case "day":
                source = select(self._local_day().label("group"))
            case "key":
                named = ledger.outerjoin(keys, keys.c.id == ledger.c.key_id)
                group = case((keys.c.name.is_(None), ledger.c.key_id), else_=ledger.c.key_id + " " + keys.c.name)
                source = select(group.label("group")).select_from(named)
            case _:
                source = select(ledger.c[by].label("group"))
        return source.add_columns(*_amounts(ledger.c)).where(*_conditions(since, only))

    def _asked_backends(self, since: float, only: Only) -> Any:
        """A row for each time that a backend was asked, with its name as the group."""
        of_attempts = (
            select(attempts.c.backend.label("group"), *_amounts(attempts.c))
            .select_from(attempts.join(ledger, ledger.c.request_id == attempts.c.request_id))
            .where(*_conditions(since, only))
        )
        of_old_rows = select(ledger.c.backend.label("group"), *_amounts(ledger.c)).where(
            ledger.c.backend != "", ~_has_attempts(), *_conditions(since, only)
        )
        if only.backend is not None:
            of_attempts = of_attempts.where(attempts.c.backend == only.backend)
        return union_all(of_attempts, of_old_rows)

    @override
    async def asked(
        self, backend: str, *, since: float, until: float | None, limit: int, after: AskedOnce | None = None
    ) -> Sequence[AskedOnce]:
        start = since if after is None else after.started_at  # each page goes on where the index stands
        of_old_row = attempts.c.request_id.is_(None)
        place = (ledger.c.started_at, ledger.c.request_id, func.coalesce(attempts.c.number, 0))
        statement = (
            select(*self._asked_columns(of_old_row))
            .select_from(ledger.outerjoin(attempts, attempts.c.request_id == ledger.c.request_id))
            .where(func.coalesce(attempts.c.backend, ledger.c.backend) == backend)
            .where(*_conditions(start, Only(until=until)))
            .order_by(*place)
            .limit(limit)
        )
        if after is not None:
            last = (literal(after.started_at), literal(after.request_id), literal(after.number))
            statement = statement.where(tuple_(*place) > tuple_(*last))
        return await self._read(lambda connection: [AskedOnce(*row) for row in connection.execute(statement)])

    def _asked_columns(self, of_old_row: ColumnElement[bool]) -> list[ColumnElement[Any]]:
        """Those of `AskedOnce`, in its order: of an attempt, or of a request of before attempts were kept."""
        return [
            ledger.c.request_id,
            func.coalesce(attempts.c.number, 0),
            ledger.c.started_at,
            self._local_day(),
            case((of_old_row, ledger.c.backend_request_id), else_=attempts.c.backend_request_id),
            func.coalesce(attempts.c.cost_micros, ledger.c.cost_micros),
            case((of_old_row, _is_unpriced(ledger.c)), else_=_is_unpriced(attempts.c)),
        ]

    def _local_day(self) -> ColumnElement[str]:
        """The day of a request, on the clock on the wall (TZ): bills are read by people. Rows of before the column was
        kept have it worked out."""
        worked_out: ColumnElement[str]
        if self._database.dialect == "sqlite":
            worked_out = func.date(ledger.c.started_at, "unixepoch", "localtime")
        else:  # the server's wall may be another one
            offset = datetime.now().astimezone().utcoffset()
            offset_s = offset.total_seconds() if offset is not None else 0.0
            at_utc = func.timezone("UTC", func.to_timestamp(ledger.c.started_at + offset_s))
            worked_out = cast(func.date(at_utc), String)
        return case((ledger.c.day != "", ledger.c.day), else_=worked_out)


def _conditions(since: float, only: Only) -> list[ColumnElement[bool]]:
    """Of rows of the ledger."""
    conditions = [ledger.c.started_at >= since]
    if only.until is not None:
        conditions.append(ledger.c.started_at < only.until)
    if only.key_id is not None:
        conditions.append(ledger.c.key_id == only.key_id)
    if only.model is not None:
        conditions.append(ledger.c.model == only.model)
    if only.backend is not None:
        asked = exists().where(attempts.c.request_id == ledger.c.request_id, attempts.c.backend == only.backend)
        conditions.append(or_(ledger.c.backend == only.backend, asked.correlate(ledger)))
    return conditions


def _has_attempts() -> ColumnElement[bool]:
    return exists().where(attempts.c.request_id == ledger.c.request_id).correlate(ledger)


def _amounts(columns: Any) -> list[ColumnElement[Any]]:
    """What a summary adds up."""
    return [columns[name] for name in ("outcome", "tariff", *_SUMMED)]


def _is_unpriced(columns: Any) -> ColumnElement[bool]:
    used = columns.input_tokens + columns.output_tokens + columns.image_count > 0
    return and_(columns.tariff == NO_TARIFF, used)


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _with_attempts(connection: Connection, wanted: Select[Any]) -> list[LedgerRow]:
    """The rows that a query wants, in two questions."""
    theirs = (
        select(attempts)
        .where(attempts.c.request_id.in_(wanted.with_only_columns(ledger.c.request_id)))
        .order_by(attempts.c.request_id, attempts.c.number)
    )
    by_request = {
        request_id: tuple(AttemptRow(*row[1:]) for row in group)
        for request_id, group in groupby(connection.execute(theirs), itemgetter(0))
    }
    rows = [LedgerRow(*row) for row in connection.execute(wanted)]
    return [replace(row, attempts=by_request.get(row.request_id, ())) for row in rows]
