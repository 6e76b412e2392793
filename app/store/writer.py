"""The one thread that writes. What has queued while it wrote shares the next commit."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, InterfaceError, ProgrammingError, SQLAlchemyError

from app.core.errors import GatewayError, InternalError, RecordsUnavailable

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Change: TypeAlias = Callable[[Connection], _T]

# What a single piece of work may be guilty of. Any other error of the database is trouble with the disk or a lock.
# The built-in ones are numbers and text that a driver will not take, or a mistake of ours: it must not end the thread.
_OWN_FAULTS = (
    *(IntegrityError, DataError, InterfaceError, ProgrammingError),
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
)


class Bulk(Protocol):
    """Does many pieces of one sort of work at once."""

    def __call__(self, connection: Connection, items: Sequence[Any], /) -> Sequence[Any]:
        """The results, in order. Doing a piece twice must change nothing, for a commit may be tried again, also one
        that succeeded unheard."""
        ...


GivenUp: TypeAlias = Callable[[Any, Exception], Any]
"""Told of a piece of work that could not be written and why; gives what its waiter gets, or the error it is told."""


class _Work(NamedTuple):
    """A piece of work, and who waits for it. `bulk` is `None` where the task is a change by itself."""

    bulk: Bulk | None
    task: Any
    done: asyncio.Future[Any]


_END: list[_Work] = []


class GroupWriter:
    """Owns the writing connection. Made and used on one event loop only.

    Args:
        bulks: the sorts of work that are done many at once, in the order they are done within a commit; what has no
            sort comes after them, each in a commit of its own, in the order it came.
        given_up: by sort, what to do where it cannot be written; else the waiter is told `RecordsUnavailable`.
        batch_max: how much one commit may hold; filling it competes with the event loop for the interpreter.
        tries, retry_s: how often a failing commit is tried before those who wait are told, and the pause between.
    """

    def __init__(
        self,
        engine: Engine,
        bulks: Sequence[Bulk] = (),
        *,
        given_up: dict[Bulk, GivenUp] | None = None,
        batch_max: int = 1000,
        tries: int = 4,
        retry_s: float = 0.5,
    ) -> None:
        self.commits = 0
        self._engine = engine
        self._bulks = tuple(bulks)
        self._given_up = given_up or {}
        self._first: Callable[[Connection, Sequence[Any]], None] | None = None
        self._first_for: Sequence[Bulk] = ()
        self._batch_max = batch_max
        self._tries = tries
        self._retry_s = retry_s
        self._down = False
        self._unsure = False
        self._loop = asyncio.get_running_loop()
        self._handed_over: list[_Work] = []
        self._queue: SimpleQueue[list[_Work]] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tuwen-writer", daemon=True)
        self._thread.start()

    @property
    def is_down(self) -> bool:
        """Whether the last commit failed for want of a database."""
        return self._down

    def begin_with(self, first: Callable[[Connection, Sequence[Any]], None], bulks: Sequence[Bulk]) -> None:
        """What a commit with work of these sorts begins with, told all of that work: it takes the locks that must not
        be taken one sort after the other. Say so before there is work."""
        self._first, self._first_for = first, bulks

    def add(self, bulk: Bulk, item: object) -> asyncio.Future[Any]:
        """Hands over a piece of work. The future carries its result once that is durable; cancelling it does not take
        the work back.

        Raises:
            InternalError: the writer was closed.
        """
        return self._hand_over(bulk, item)

    def apply(self, change: _Change[_T]) -> asyncio.Future[_T]:
        """Hands over a change; the future carries what it returned, once that is durable.

        Raises:
            InternalError: the writer was closed.
        """
        return self._hand_over(None, change)

    def _hand_over(self, bulk: Bulk | None, task: object) -> asyncio.Future[Any]:
        if self._closed:
            raise InternalError("The gateway is stopping and books nothing more.")
        done: asyncio.Future[Any] = self._loop.create_future()
        if not self._handed_over:
            self._loop.call_soon(self._pass_on)
        self._handed_over.append(_Work(bulk, task, done))
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
        connection: Connection | None = None
        for batch in self._batches():
            for work in _apart(batch):
                connection, results = self._commit_with_patience(connection, work)
                self._wake(work, results)
        if connection is not None:
            connection.close()

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

    def _commit_with_patience(
        self, connection: Connection | None, batch: Sequence[_Work]
    ) -> tuple[Connection | None, list[Any]]:
        """The connection to go on with, and the results. While the database is known to be down it is tried once, so
        that those who wait hear of it soon."""
        tries = 1 if self._down else self._tries
        self._unsure = False
        for attempt in range(1, tries + 1):
            try:
                connection = connection or self._engine.connect()
                results = self._commit(connection, batch)
            except (SQLAlchemyError, RuntimeError) as error:  # whatever it is, the thread must live
                level = logging.DEBUG if self._down else logging.WARNING  # said once an outage, however many ask
                _log.log(level, "commit %d of %d failed: %s", attempt, tries, getattr(error, "orig", error))
                failure = error
                if connection is not None and not _is_usable(connection, error):
                    connection.close()
                    connection = None
            else:
                self._down = False
                return connection, results
            if attempt < tries:
                time.sleep(self._retry_s)
        self._down = True
        return connection, [self._excused(work, failure) for work in batch]

    def _commit(self, connection: Connection, batch: Sequence[_Work]) -> list[Any]:
        """Commits a batch; its results in order. Work that is at fault itself fails alone."""
        try:
            with connection.begin():
                results = self._execute(connection, batch)
                self._unsure = True  # should the commit break that follows, nobody can say whether it was done
            self._unsure = False
        except _OWN_FAULTS as error:
            if connection.invalidated:  # the server went away, whatever the driver calls it
                raise
            if len(batch) == 1:
                return [self._excused(batch[0], error)]
            return [result for work in batch for result in self._commit(connection, [work])]
        self.commits += 1
        return results

    def _execute(self, connection: Connection, batch: Sequence[_Work]) -> list[Any]:
        results: list[Any] = [None] * len(batch)
        concerned = [work.task for work in batch if work.bulk in self._first_for]
        if self._first is not None and concerned:
            self._first(connection, concerned)
        for bulk in self._bulks:
            places = [place for place, work in enumerate(batch) if work.bulk is bulk]
            if places:
                found = bulk(connection, [batch[place].task for place in places])
                for place, result in zip(places, found, strict=True):
                    results[place] = result
        for place, work in enumerate(batch):
            if work.bulk is None:
                results[place] = work.task(connection)
        return results

    def _excused(self, work: _Work, cause: Exception) -> Any:
        """What the one who waits gets where its work could not be written."""
        given_up = self._given_up.get(work.bulk) if work.bulk is not None else None
        if given_up is not None:
            return given_up(work.task, cause)
        error = RecordsUnavailable(detail=str(cause), unsure=self._unsure)
        error.__cause__ = cause
        return error

    def _wake(self, batch: Sequence[_Work], results: Sequence[Any]) -> None:
        try:
            self._loop.call_soon_threadsafe(_deliver, batch, results)
        except RuntimeError:
            _log.debug("the event loop ended before its %d pieces of work were written", len(batch))


def _is_usable(connection: Connection, error: Exception) -> bool:
    return isinstance(error, DatabaseError) and not (connection.closed or connection.invalidated)


def _apart(batch: Sequence[_Work]) -> Iterator[Sequence[_Work]]:
    """What may share a commit. A change by itself may lock anything, so it shares none: on Postgres it would wait for
    others while they wait for us."""
    together = [work for work in batch if work.bulk is not None]
    if together:
        yield together
    for work in batch:
        if work.bulk is None:
            yield [work]


def _deliver(batch: Sequence[_Work], results: Sequence[Any]) -> None:
    for work, result in zip(batch, results, strict=True):
        if work.done.done():  # whoever waited has left
            continue
        if isinstance(result, GatewayError):
            work.done.set_exception(result)
        else:
            work.done.set_result(result)
