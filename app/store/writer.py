"""The one thread that writes. What has queued while it wrote shares the next commit."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError, ProgrammingError

from app.core.errors import InternalError

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Row: TypeAlias = tuple[Any, ...]
_Rows: TypeAlias = tuple[_Row, ...]
_Change: TypeAlias = Callable[[Connection], _T]

# What a single piece of work may be guilty of. Any other error of the database is trouble with the disk or a lock.
_OWN_FAULTS = (IntegrityError, DataError, InterfaceError, ProgrammingError, OverflowError, UnicodeEncodeError)


class _Work(NamedTuple):
    """A row with its children, or a change; and who waits for it. A tuple, because one is made per request."""

    task: _Row | _Change[Any]
    done: asyncio.Future[Any]
    children: _Rows = ()


_END: list[_Work] = []


class GroupWriter:
    """Owns the writing connection. Made and used on one event loop only.

    Args:
        insert_sql: writes a row; writing a row twice must change nothing, for a commit may be tried again.
        child_sql: writes a child of a row, under the same rule.
        batch_max: how much one commit may hold; filling it competes with the event loop for the interpreter.
        tries, retry_s: how often a failing commit is tried before those who wait are told, and the pause between.
    """

    def __init__(
        self,
        engine: Engine,
        insert_sql: str,
        child_sql: str = "",
        *,
        batch_max: int = 1000,
        tries: int = 4,
        retry_s: float = 0.5,
    ) -> None:
        self.commits = 0
        self._engine = engine
        self._insert_sql = insert_sql
        self._child_sql = child_sql
        self._batch_max = batch_max
        self._tries = tries
        self._retry_s = retry_s
        self._loop = asyncio.get_running_loop()
        self._handed_over: list[_Work] = []
        self._queue: SimpleQueue[list[_Work]] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tuwen-writer", daemon=True)
        self._thread.start()

    def add(self, row: _Row, children: _Rows = ()) -> asyncio.Future[None]:
        """Hands over a row and its children, which stand or fall together. The future is done once they are durable;
        cancelling it does not take them back.

        Raises:
            InternalError: the writer was closed.
        """
        return self._hand_over(row, children)

    def apply(self, change: _Change[_T]) -> asyncio.Future[_T]:
        """Hands over a change; the future carries what it returned, once that is durable.

        Raises:
            InternalError: the writer was closed.
        """
        return self._hand_over(change)

    def _hand_over(self, task: _Row | _Change[Any], children: _Rows = ()) -> asyncio.Future[Any]:
        if self._closed:
            raise InternalError("The gateway is stopping and books nothing more.")
        done: asyncio.Future[Any] = self._loop.create_future()
        if not self._handed_over:
            self._loop.call_soon(self._pass_on)
        self._handed_over.append(_Work(task, done, children))
        return done

    def _pass_on(self) -> None:
        """Wakes the thread once for all that this turn of the event loop brought."""
        if self._handed_over:
            self._queue.put(self._handed_over)
            self._handed_over = []

    async def aclose(self) -> None:
        """Writes what is queued, then ends the thread."""
        if not self._closed:
            self._closed = True
            self._pass_on()
            self._queue.put(_END)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        with self._engine.connect() as connection:
            for batch in self._batches():
                self._wake(batch, self._commit_with_patience(connection, batch))

    def _batches(self) -> Iterator[list[_Work]]:
        """Waits for work, then yields what has queued; ends when the writer was closed and all is written."""
        queued: list[_Work] = []
        open_ = True
        while open_ or queued:
            while open_ and (not queued or (len(queued) < self._batch_max and not self._queue.empty())):
                handed_over = self._queue.get()
                open_ = handed_over is not _END
                queued += handed_over
            if queued:
                yield queued[: self._batch_max]
                del queued[: self._batch_max]

    def _commit_with_patience(self, connection: Connection, batch: Sequence[_Work]) -> list[Any]:
        for attempt in range(1, self._tries + 1):
            try:
                return self._commit(connection, batch)
            except DatabaseError as error:
                _log.warning("commit %d of %d failed: %s", attempt, self._tries, error.orig)
                failure = error
            if attempt < self._tries:
                time.sleep(self._retry_s)
        return [_given_up(work, failure) for work in batch]

    def _commit(self, connection: Connection, batch: Sequence[_Work]) -> list[Any]:
        """Commits a batch; its results in order. Work that is at fault itself fails alone."""
        try:
            with connection.begin():
                results = self._execute(connection, batch)
        except _OWN_FAULTS as error:
            if len(batch) == 1:
                return [_given_up(batch[0], error)]
            return [result for work in batch for result in self._commit(connection, [work])]
        self.commits += 1
        return results

    def _execute(self, connection: Connection, batch: Sequence[_Work]) -> list[Any]:
        rows = [work.task for work in batch if isinstance(work.task, tuple)]
        children = [child for work in batch for child in work.children]
        if children:
            connection.exec_driver_sql(self._child_sql, children)
        if rows:
            connection.exec_driver_sql(self._insert_sql, rows)
        return [None if isinstance(work.task, tuple) else work.task(connection) for work in batch]

    def _wake(self, batch: Sequence[_Work], results: Sequence[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(_deliver, batch, results)
        except RuntimeError:
            _log.debug("the event loop ended before its %d rows were written", len(batch))


def _deliver(batch: Sequence[_Work], results: Sequence[Any]) -> None:
    for work, result in zip(batch, results, strict=True):
        if work.done.done():  # whoever waited has left
            continue
        if isinstance(result, InternalError):
            work.done.set_exception(result)
        else:
            work.done.set_result(result)


def _given_up(work: _Work, cause: Exception) -> InternalError:
    """What the one who waits is told. A row goes to the log as it is, so that nothing billed is lost."""
    if isinstance(work.task, tuple):
        _log.critical("this row is not in the ledger: %s", json.dumps([*work.task, *work.children]), exc_info=cause)
    error = InternalError("The gateway cannot keep its records at the moment. Try again later.")
    error.__cause__ = cause
    return error
