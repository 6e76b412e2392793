"""What the writing thread does when the disk will not take a commit. The disk is the file's own lock, held by us."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine

from app.core.errors import InternalError
from app.store.engine import sqlite_engine
from app.store.writer import GroupWriter

INSERT = "INSERT INTO bills VALUES (?, ?) ON CONFLICT DO NOTHING"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "bills.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE bills (id TEXT PRIMARY KEY, amount INTEGER)")
    return path


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = sqlite_engine(path, "write", busy_timeout_s=0.02)
    yield engine
    engine.dispose()


@pytest.fixture
async def writer(engine: Engine) -> AsyncIterator[GroupWriter]:
    writer = GroupWriter(engine, INSERT, batch_max=10, tries=3, retry_s=0.01)
    yield writer
    await writer.aclose()


def amounts(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, amount FROM bills"))


async def test_commit_that_fails_for_a_while_is_tried_again(engine: Engine, path: Path) -> None:
    writer = GroupWriter(engine, INSERT, tries=500, retry_s=0.01)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        row = writer.add(("a", 1))
        done, _ = await asyncio.wait([row], timeout=0.1)
        assert not done
        other.execute("ROLLBACK")
    await row
    await writer.aclose()
    assert amounts(path) == {"a": 1}
    assert writer.commits == 1


async def test_commit_that_keeps_failing_is_reported_and_its_rows_are_in_the_log(
    writer: GroupWriter, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        outcomes = await asyncio.gather(writer.add(("a", 1)), writer.add(("b", 2)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [InternalError, InternalError]
    assert "locked" not in str(outcomes[0])
    critical = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert [json.loads(message.partition(": ")[2]) for message in critical] == [["a", 1], ["b", 2]]
    await writer.add(("c", 3))
    assert amounts(path) == {"c": 3}


async def test_change_that_keeps_failing_is_reported(writer: GroupWriter, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InternalError):
            await writer.apply(lambda connection: connection.exec_driver_sql("DELETE FROM bills").rowcount)


async def test_row_and_its_children_are_in_the_log_together(
    engine: Engine, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = GroupWriter(engine, INSERT, INSERT, tries=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InternalError):
            await writer.add(("a", 1), (("a-1", 2), ("a-2", 3)))
    await writer.aclose()
    [message] = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert json.loads(message.partition(": ")[2]) == ["a", 1, ["a-1", 2], ["a-2", 3]]


async def test_change_carries_its_result(writer: GroupWriter, path: Path) -> None:
    added = writer.add(("a", 1))
    deleted = writer.apply(lambda connection: connection.exec_driver_sql("DELETE FROM bills").rowcount)
    assert (await added, await deleted) == (None, 1)
    assert amounts(path) == {}


async def test_batch_is_bounded(writer: GroupWriter, path: Path) -> None:
    await asyncio.gather(*(writer.add((str(number), number)) for number in range(25)))
    assert writer.commits == 3
    assert len(amounts(path)) == 25


async def test_commit_shared_with_a_waiter_who_left_wakes_the_others(writer: GroupWriter, path: Path) -> None:
    leaver, stayer = writer.add(("a", 1)), writer.add(("b", 2))
    leaver.cancel()
    await stayer
    assert amounts(path) == {"a": 1, "b": 2}


def test_rows_of_an_event_loop_that_ended_are_written_all_the_same(engine: Engine, path: Path) -> None:
    async def hand_over_and_leave() -> GroupWriter:
        writer = GroupWriter(engine, INSERT)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        writer.add(("a", 1))
        await asyncio.sleep(0)
        lock.append(other)
        return writer

    lock: list[sqlite3.Connection] = []
    writer = asyncio.run(hand_over_and_leave())
    lock[0].close()
    asyncio.run(writer.aclose())
    assert amounts(path) == {"a": 1}
