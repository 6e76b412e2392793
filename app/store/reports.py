"""What was booked, read for people. Nothing here is asked while a request waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter

from sqlalchemy import ColumnElement, Connection, String, and_, case, cast, func, select, text
from typing_extensions import override

from app.accounts.interfaces import AttemptRow, LedgerRow, Reports, UsageGrouping, UsageSummary
from app.accounts.usage import NO_TARIFF
from app.store.database import Database
from app.store.tables import attempts, keys, ledger


class SqlReports(Reports):
    """Sums and rows of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

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

        return await self._database.read(query)

    @override
    async def summary(self, by: UsageGrouping, *, since: float) -> Sequence[UsageSummary]:
        used = ledger.c.input_tokens + ledger.c.output_tokens + ledger.c.image_count > 0
        group = self._group(by).label("group")
        statement = (
            select(
                group,
                func.count(),
                func.sum(_one_if(ledger.c.outcome == "failed")),
                func.sum(ledger.c.input_tokens),
                func.sum(ledger.c.output_tokens),
                func.sum(ledger.c.image_count),
                cast(func.sum(ledger.c.cost_micros), ledger.c.cost_micros.type),
                func.sum(_one_if(and_(ledger.c.tariff == NO_TARIFF, used))),
            )
            .select_from(ledger.outerjoin(keys, keys.c.id == ledger.c.key_id) if by == "key" else ledger)
            .where(ledger.c.started_at >= since)
            .group_by(text("1"))  # by its place: Postgres takes two expressions with parameters for two, though alike
            .order_by(text("1"))
        )
        return await self._database.read(
            lambda connection: [UsageSummary(*row) for row in connection.execute(statement)]
        )

    def _group(self, by: UsageGrouping) -> ColumnElement[str]:
        match by:
            case "day":
                return self._local_day()
            case "key":
                return case((keys.c.name.is_(None), ledger.c.key_id), else_=ledger.c.key_id + " " + keys.c.name)
            case _:
                return ledger.c[by]

    def _local_day(self) -> ColumnElement[str]:
        """Days are those of the clock on the wall (TZ), not of UTC: bills are read by people. On Postgres it is the
        wall of the database's session."""
        if self._database.dialect == "sqlite":
            return func.date(ledger.c.started_at, "unixepoch", "localtime")
        return cast(func.date(func.to_timestamp(ledger.c.started_at)), String)


def _one_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)
