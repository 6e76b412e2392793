"""What the writing thread does when the disk will not take a commit. The disk is the file's own lock, held by us."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import PoolProxiedConnection

from app.core.errors import InternalError, RecordsUnavailable
from app.store.engine import sqlite_engine
from app.store.writer import GroupWriter

Bill = tuple[str, int]


def insert(connection: Connection, bills: Sequence[Bill]) -> list[str]:
    """Twice changes nothing. Gives the ids."""
    connection.exec_driver_sql("INSERT INTO bills VALUES (?, ?) ON CONFLICT DO NOTHING", list(bills))
    return [bill[0] for bill in bills]


def double(connection: Connection, ids: Sequence[str]) -> list[int]:
    """Done after `insert` in a commit; gives how many rows it found of each."""
    statement = "UPDATE bills SET amount = amount * 2 WHERE id = ?"
    return [connection.exec_driver_sql(statement, (each,)).rowcount for each in ids]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bills.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE bills (id TEXT PRIMARY KEY, amount INTEGER CHECK (amount < 1000))")
    return path


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = sqlite_engine(path, "write", busy_timeout_s=0.02)
    yield engine
    engine.dispose()


@pytest.fixture
async def writer(engine: Engine) -> AsyncIterator[GroupWriter]:
    writer = GroupWriter(engine, (insert, double), batch_max=10, tries=3, retry_s=0.01)
    yield writer
    await writer.aclose()


def amounts(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, amount FROM bills"))


async def outcomes(*work: asyncio.Future[Any]) -> list[Any]:
    return list(await asyncio.gather(*work, return_exceptions=True))


async def test_each_gets_the_result_of_its_own_work(writer: GroupWriter, path: Path) -> None:
    """Sorts are done in their order, whatever the order they came in."""
    work = (
        writer.add(double, "a"),
        writer.add(insert, ("a", 1)),
        writer.add(double, "b"),
        writer.add(insert, ("c", 3)),
    )
    assert await asyncio.gather(*work) == [1, "a", 0, "c"]
    assert amounts(path) == {"a": 2, "c": 3}
    assert writer.commits == 1


async def test_commit_that_fails_for_a_while_is_tried_again(engine: Engine, path: Path) -> None:
    writer = GroupWriter(engine, (insert,), tries=500, retry_s=0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        row = writer.add(insert, ("a", 1))
        done, _ = await asyncio.wait([row], timeout=0.1)
        assert not done
        other.execute("ROLLBACK")
    await row
    await writer.aclose()
    assert amounts(path) == {"a": 1}
    assert writer.commits == 1


async def test_commit_that_keeps_failing_is_told_to_all_who_wait(writer: GroupWriter, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = await outcomes(writer.add(insert, ("a", 1)), writer.add(insert, ("b", 2)))
    assert [type(each) for each in told] == [RecordsUnavailable, RecordsUnavailable]
    assert "locked" in told[0].detail
    assert "locked" not in str(told[0])
    assert not told[0].unsure
    await writer.add(insert, ("c", 3))
    assert amounts(path) == {"c": 3}


async def test_database_that_is_known_to_be_away_is_tried_once(
    writer: GroupWriter, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await outcomes(writer.add(insert, ("a", 1)))
        assert [record.getMessage()[:16] for record in caplog.records] == [f"commit {n} of 3 fa" for n in (1, 2, 3)]
        caplog.clear()
        await outcomes(writer.add(insert, ("a", 1)))
        assert caplog.records == [], "it was said before"
        caplog.set_level(logging.DEBUG, "app.store.writer")
        await outcomes(writer.add(insert, ("a", 1)))
        assert [record.getMessage()[:16] for record in caplog.records] == ["commit 1 of 1 fa"]
    await writer.add(insert, ("c", 3))
    caplog.clear()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await outcomes(writer.add(insert, ("d", 1)))
    assert len(caplog.records) == 3, "it had come back meanwhile"


async def test_change_that_keeps_failing_is_reported(writer: GroupWriter, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordsUnavailable):
            await writer.apply(lambda connection: connection.exec_driver_sql("DELETE FROM bills").rowcount)


async def test_work_that_is_given_up_gets_what_its_sort_provides_for(engine: Engine, path: Path) -> None:
    """One sort keeps it elsewhere, and another could not even do that."""
    kept: list[Any] = []

    def keep(bill: Bill, cause: Exception) -> str:
        kept.append((bill, type(cause)))
        return "kept"

    def lose(_: str, cause: Exception) -> RecordsUnavailable:
        return RecordsUnavailable(detail=str(cause))

    writer = GroupWriter(engine, (insert, double), given_up={insert: keep, double: lose}, tries=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = await outcomes(writer.add(insert, ("a", 1)), writer.add(double, "a"))
    await writer.aclose()
    assert told[0] == "kept"
    assert isinstance(told[1], RecordsUnavailable)
    assert kept == [(("a", 1), OperationalError)]


async def test_work_at_fault_itself_fails_alone(writer: GroupWriter, path: Path) -> None:
    """Neither too big an amount, nor a number or text that the driver will not take, harms the neighbours."""
    bills = [("a", 1), ("too-much", 1000), ("b", 2), ("too-big", 2**70), ("\ud800", 3), ("c", 3)]
    told = await outcomes(*(writer.add(insert, bill) for bill in bills), writer.add(double, "a"))
    failed = [RecordsUnavailable]
    assert [type(each) for each in told] == [str, *failed, str, *failed * 2, str, int]
    assert amounts(path) == {"a": 2, "b": 2, "c": 3}


async def test_change_at_fault_itself_fails_alone(writer: GroupWriter, path: Path) -> None:
    bad = writer.apply(lambda connection: connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)"))
    told = await outcomes(writer.add(insert, ("a", 1)), bad, writer.add(insert, ("b", 2)))
    assert [type(each) for each in told] == [str, RecordsUnavailable, str]
    assert amounts(path) == {"a": 1, "b": 2}


@pytest.mark.parametrize("mistake", [KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError])
async def test_mistake_of_ours_fails_alone_and_does_not_end_the_thread(
    writer: GroupWriter, path: Path, mistake: type[Exception]
) -> None:
    def wrong(_: Connection) -> None:
        raise mistake("of ours")

    told = await outcomes(writer.apply(wrong), writer.add(insert, ("a", 1)))
    assert [type(each) for each in told] == [RecordsUnavailable, str]
    assert amounts(path) == {"a": 1}


async def test_change_comes_after_the_work_it_came_with_and_carries_its_result(writer: GroupWriter, path: Path) -> None:
    deleted = writer.apply(lambda connection: connection.exec_driver_sql("DELETE FROM bills").rowcount)
    added = writer.add(insert, ("a", 1))
    assert (await added, await deleted) == ("a", 1)
    assert amounts(path) == {}


async def test_change_has_a_commit_of_its_own(writer: GroupWriter) -> None:
    """It may lock anything, in any order."""
    changes = [writer.apply(lambda connection: connection.exec_driver_sql("DELETE FROM bills").rowcount)] * 1
    await asyncio.gather(writer.add(insert, ("a", 1)), *changes, writer.add(insert, ("b", 1)))
    assert writer.commits == 2


async def test_commit_begins_with_the_locks_of_all_its_work(writer: GroupWriter) -> None:
    locked: list[list[Any]] = []
    writer.begin_with(lambda _, work: locked.append(list(work)), (insert,))
    await asyncio.gather(writer.add(insert, ("a", 1)), writer.add(double, "a"), writer.add(insert, ("b", 1)))
    await writer.add(double, "a")
    assert locked == [[("a", 1), ("b", 1)]]


async def test_batch_is_bounded(writer: GroupWriter, path: Path) -> None:
    await asyncio.gather(*(writer.add(insert, (str(number), number)) for number in range(25)))
    assert writer.commits == 3
    assert len(amounts(path)) == 25


async def test_commit_shared_with_a_waiter_who_left_wakes_the_others(writer: GroupWriter, path: Path) -> None:
    leaver, stayer = writer.add(insert, ("a", 1)), writer.add(insert, ("b", 2))
    leaver.cancel()
    await stayer
    assert amounts(path) == {"a": 1, "b": 2}


async def test_commit_that_succeeded_unheard_is_tried_again_and_changes_nothing_twice(
    writer: GroupWriter, engine: Engine, path: Path
) -> None:
    unheard = Unheard(engine, times=1)
    assert await writer.add(insert, ("a", 1)) == "a"
    assert unheard.commits == 1
    assert amounts(path) == {"a": 1}


async def test_who_waits_is_told_that_a_commit_may_have_succeeded(
    writer: GroupWriter, engine: Engine, path: Path
) -> None:
    Unheard(engine, times=3)
    [told] = await outcomes(writer.add(insert, ("a", 1)))
    assert isinstance(told, RecordsUnavailable)
    assert told.unsure
    assert amounts(path) == {"a": 1}
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        [told] = await outcomes(writer.add(insert, ("b", 1)))
    assert not told.unsure


class Unheard:
    """Lets commits succeed, and then says that the connection broke. It counts them."""

    def __init__(self, engine: Engine, *, times: int) -> None:
        self.commits = 0
        self._times = times
        self._commit = engine.dialect.do_commit
        engine.dialect.do_commit = self._do_commit  # type: ignore[method-assign]  # no event comes after the commit

    def _do_commit(self, connection: PoolProxiedConnection) -> None:
        self._commit(connection)
        if self.commits < self._times:
            self.commits += 1
            raise sqlite3.OperationalError("the connection broke")


async def test_closed_writer_takes_no_more_and_closes_again(engine: Engine) -> None:
    writer = GroupWriter(engine, (insert,))
    await writer.aclose()
    await writer.aclose()
    with pytest.raises(InternalError, match="stopping"):
        writer.add(insert, ("a", 1))
    with pytest.raises(InternalError, match="stopping"):
        writer.apply(lambda _: None)


async def test_writer_that_never_wrote_leaves_no_thread(engine: Engine) -> None:
    before = set(threading.enumerate())
    writer = GroupWriter(engine)
    await writer.aclose()
    assert "tuwen-writer" not in {thread.name for thread in set(threading.enumerate()) - before}


def test_rows_of_an_event_loop_that_ended_are_written_all_the_same(engine: Engine, path: Path) -> None:
    async def hand_over_and_leave() -> GroupWriter:
        writer = GroupWriter(engine, (insert,))
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        writer.add(insert, ("a", 1))
        await asyncio.sleep(0)
        lock.append(other)
        return writer

    lock: list[sqlite3.Connection] = []
    writer = asyncio.run(hand_over_and_leave())
    lock[0].close()
    asyncio.run(writer.aclose())
    assert amounts(path) == {"a": 1}
