"""The database as the stores of this package share it: one thread that writes, a few that read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine, UpdateBase
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.core.errors import RecordsUnavailable
from app.store.engine import READERS, Place, engine_of, prepare_place
from app.store.errors import StoreUnusable
from app.store.writer import Bulk, GivenUp, GroupWriter

_T = TypeVar("_T")


class Database:
    """Use `Database.prepared`, then `start` on the event loop that will use it, and `aclose` when done."""

    def __init__(self, writing: Engine, reading: Engine) -> None:
        self.writing = writing
        self._reading = reading
        # Threads of its own: looking up a key must not queue behind somebody's pictures.
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="tuwen-reader")
        self.writer: GroupWriter

    @classmethod
    async def prepared(cls, place: Place) -> Database:
        """Opens it, and brings its tables to those of this program.

        Raises:
            StoreUnusable: it cannot be made, reached or read, is no database, is locked, or a newer program wrote it.
        """
        writing = engine_of(place, "write")
        try:
            await asyncio.to_thread(prepare_place, place, writing)
        except StoreUnusable:
            writing.dispose()
            raise
        return cls(writing, engine_of(place, "read"))

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self.writing.dialect.name

    def start(self, bulks: Sequence[Bulk], given_up: dict[Bulk, GivenUp]) -> None:
        """Starts the thread that writes."""
        self.writer = GroupWriter(self.writing, bulks, given_up=given_up)

    async def changed_rows(self, statement: UpdateBase) -> int:
        """How many rows a statement changed, once that is durable."""
        return await self.writer.apply(lambda connection: connection.execute(statement).rowcount)

    async def read(self, query: Callable[[Connection], _T]) -> _T:
        """Runs a query beside the event loop, on one snapshot of the database.

        Raises:
            RecordsUnavailable: it cannot be read.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, query)
        except (DatabaseError, PoolTimeout) as error:
            raise RecordsUnavailable(detail=str(error)) from error

    def _query(self, query: Callable[[Connection], _T]) -> _T:
        with self._reading.begin() as connection:
            return query(connection)

    async def aclose(self) -> None:
        """Writes what was handed over, then lets go of the database."""
        await self.writer.aclose()
        await asyncio.to_thread(self._readers.shutdown)
        for engine in (self.writing, self._reading):
            engine.dispose()
