"""Details of requests, written behind everything else and dropped by age."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, delete, select
from typing_extensions import override

from app.accounts.details import Detail, Details, Fault
from app.core.errors import InternalError
from app.store.cursor import cursor_of
from app.store.database import Database
from app.store.tables import details

_WAITING_MAX = 1000
_OF_A_KEY_MAX = 60
"""In a minute: a client that asks again and again what it is refused must not fill the disk."""
_MINUTE_S = 60
_FORGOTTEN_AT_ONCE = 5000
_DETAIL_MAX_CHARS = 2000

_COLUMNS = tuple(details.columns.keys())
_ADD = f"INSERT INTO details ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


def write_details(connection: Connection, items: Sequence[Detail]) -> list[None]:
    """Stores them."""
    with cursor_of(connection) as cursor:
        cursor.many(_ADD, [_values(item) for item in items])
    return [None] * len(items)


def dropped(item: Detail, cause: Exception) -> None:
    """What becomes of one that the database would not take: nothing."""


class SqlDetails(Details):
    """Details in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting = 0
        self._minute = 0
        self._of_key: Counter[str] = Counter()
        self.dropped = 0

    @override
    def add(self, detail: Detail) -> None:
        if self._waiting >= _WAITING_MAX or not self._has_room(detail):
            self.dropped += 1
            return
        try:
            written = self._database.writer.add(write_details, detail)
        except InternalError:  # the gateway is stopping
            self.dropped += 1
            return
        self._waiting += 1
        written.add_done_callback(self._done)

    def _has_room(self, detail: Detail) -> bool:
        minute = int(detail.at) // _MINUTE_S
        if minute != self._minute:
            self._minute = minute
            self._of_key.clear()
        self._of_key[detail.key_id] += 1
        return self._of_key[detail.key_id] <= _OF_A_KEY_MAX

    def _done(self, written: asyncio.Future[None]) -> None:
        self._waiting -= 1
        if not written.cancelled() and written.exception() is not None:
            self.dropped += 1

    @override
    async def detail(self, request_id: str) -> Detail | None:
        statement = select(details).where(details.c.request_id == request_id)
        row = await self._database.read(lambda connection: connection.execute(statement).one_or_none())
        if row is None:
            return None
        request_id, at, key_id, model, status, error_code, notices, faults = row
        known = tuple(Fault(**fault) for fault in json.loads(faults))
        return Detail(request_id, at, key_id, model, status, error_code, tuple(json.loads(notices)), known)

    @override
    async def forget(self, before: float) -> int:
        old = select(details.c.request_id).where(details.c.at < before).order_by(details.c.at).limit(_FORGOTTEN_AT_ONCE)
        return await self._database.changed_rows(delete(details).where(details.c.request_id.in_(old)))


def _values(item: Detail) -> tuple[object, ...]:
    faults = [{**asdict(fault), "detail": fault.detail[:_DETAIL_MAX_CHARS]} for fault in item.faults]
    fields = (item.request_id, item.at, item.key_id, item.model, item.status, item.error_code)
    return (*fields, json.dumps(item.notices), json.dumps(faults))
