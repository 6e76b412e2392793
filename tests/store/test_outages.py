"""The database goes away under load and comes back: nothing is booked twice, nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import OperationalError as DriverError
from sqlalchemy.pool import PoolProxiedConnection

from app.accounts.balances import Budget
from app.accounts.interfaces import HoldRefusal, LedgerRow
from app.core.errors import RecordsUnavailable
from app.store.engine import Place
from app.store.journal import FILE_NAME
from app.store.sql import SqlStore
from tests.store.processes import let_go, outputs, start
from tests.store.requests import a_key, add_key, balance_of, ended, held, order, settled, sums
from tests.support.services import PrivatePostgres, private_postgres, require_postgres

SOON_S = 5.0
"""Three seconds are what a caller may wait for a refusal; the rest is for a busy machine."""


@pytest.fixture(scope="module")
def server() -> Iterator[PrivatePostgres]:
    """A server that these tests may stop."""
    require_postgres()
    with private_postgres() as server:
        yield server


@pytest.fixture
def url(server: PrivatePostgres) -> Iterator[str]:
    server.start()
    yield server.fresh_database()
    server.start()


@pytest.fixture
def journal_dir(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def store(url: str, journal_dir: Path) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(Place.of(Path(), url), journal_dir=journal_dir)
    yield store
    await store.aclose()


async def begun(store: SqlStore, count: int, name: str = "r") -> list[LedgerRow]:
    """Requests under way, each with 10 set aside."""
    rows = [held(f"{name}{at}", 10) for at in range(count)]
    assert await asyncio.gather(*(store.hold(order(row.request_id, 10)) for row in rows)) == [None] * count
    return rows


async def test_hold_is_refused_soon_while_the_server_is_away_and_granted_when_it_is_back(
    store: SqlStore, server: PrivatePostgres
) -> None:
    await add_key(store, total_micros=100)
    assert await store.hold(order("before", 10)) is None
    server.stop()
    for name in ("first", "second"):
        start_s = time.monotonic()
        with pytest.raises(RecordsUnavailable) as caught:
            await store.hold(order(name, 10))
        assert time.monotonic() - start_s < SOON_S
        assert not caught.value.unsure
    server.start()
    assert await store.hold(order("after", 10)) is None
    assert await sums(store) == (0, 20)
    assert {row.request_id for row in await store.rows(since=0, limit=10)} == {"before", "after"}


async def test_nothing_can_be_read_while_the_server_is_away(store: SqlStore, server: PrivatePostgres) -> None:
    await add_key(store)
    assert await store.keys()
    server.stop()
    with pytest.raises(RecordsUnavailable):
        await store.keys()
    server.start()
    assert len(await store.keys()) == 1


async def test_end_while_the_server_is_away_waits_in_the_journal(
    store: SqlStore, server: PrivatePostgres, journal_dir: Path
) -> None:
    await add_key(store, total_micros=1000)
    rows = await begun(store, 30)
    server.stop()
    start_s = time.monotonic()
    ends = [ended(row, 4) for row in rows]
    assert await asyncio.gather(*map(store.settle, ends)) == ends
    assert time.monotonic() - start_s < SOON_S
    assert stat.S_IMODE((journal_dir / FILE_NAME).stat().st_mode) == 0o600
    with pytest.raises(RecordsUnavailable):
        await store.replay()
    server.start()
    assert await sums(store) == (0, 300)
    assert await store.replay() == 30
    assert await sums(store) == (120, 0)
    assert await store.replay() == 0
    assert await sums(store) == (120, 0)
    assert list(journal_dir.iterdir()) == []


async def test_rows_that_expired_during_the_outage_are_put_right_by_the_journal(
    store: SqlStore, server: PrivatePostgres
) -> None:
    """After a long outage another process may sweep before this one has replayed its journal."""
    await add_key(store, total_micros=1000)
    rows = await begun(store, 3)
    server.stop()
    await asyncio.gather(*(store.settle(ended(row, 4)) for row in rows))
    server.start()
    assert await store.expire(100.1) == 3
    assert await sums(store) == (0, 0)
    await store.replay()
    assert await sums(store) == (12, 0)


async def test_server_that_stops_under_load_costs_and_doubles_nothing(
    store: SqlStore, server: PrivatePostgres, journal_dir: Path
) -> None:
    """Over five seconds: the server is stopped and started again twice, while requests come and go."""
    await store.add_key(a_key(), Budget(total_micros=10**9))
    over = asyncio.Event()
    finished: dict[str, int] = {}
    refused = 0

    async def serve(number: int) -> None:
        nonlocal refused
        turn = 0
        if number % 2:  # out of step, so that some are held while others are settled
            await store.settle(ended(held(f"begin{number}"), 0))
        while not over.is_set():
            turn += 1
            request_id = f"r{number}-{turn}"
            try:
                outcome = await store.hold(order(request_id, 10))
            except RecordsUnavailable as error:
                refused += 1
                if error.unsure:  # as a meter does: a row may be open, so it is closed
                    await store.settle(ended(held(request_id, 10), 0))
                continue
            assert outcome is None
            await store.settle(ended(held(request_id, 10), turn))
            finished[request_id] = turn

    serving = [asyncio.create_task(serve(number)) for number in range(30)]
    for enough in (200, 600):
        await until(lambda enough=enough: len(finished) > enough)
        await asyncio.to_thread(server.stop)
        await until(lambda already=refused: refused > already + 60)
        server.start()  # in this thread, for it ends with the one that started it
    await until(lambda: len(finished) > 1000)
    over.set()
    await asyncio.gather(*serving)
    await store.replay()
    rows = {row.request_id: row for row in await store.rows(since=0, limit=10**6)}
    assert {name: row.cost_micros for name, row in rows.items() if row.cost_micros} == finished
    assert await sums(store) == (sum(finished.values()), 0)
    assert not any(row.state in {"held", "dispatched"} for row in rows.values())
    assert list(journal_dir.glob("*")) == []


async def until(so: object) -> None:
    """Lets the others go on until it is so."""
    async with asyncio.timeout(60):
        while not so():  # type: ignore[operator]  # a callable
            await asyncio.sleep(0.01)


async def test_journal_of_a_process_that_was_killed_is_booked_by_another(
    store: SqlStore, server: PrivatePostgres, url: str, journal_dir: Path
) -> None:
    await add_key(store, total_micros=1000)
    worker = start(url, "told", "w", journal_dir)
    let_go(worker)
    with worker:
        assert said(worker) == "open"
        tell(worker, "before")
        server.stop()
        tell(worker, "during")
        worker.kill()
    server.start()
    assert await sums(store) == (20, 0)
    assert outputs(start(url, "replay", "", journal_dir)) == ["5"]
    assert await sums(store) == (40, 0)
    assert await store.replay() == 0


async def test_processes_that_share_a_folder_book_each_others_rows_once(
    store: SqlStore, server: PrivatePostgres, url: str, journal_dir: Path
) -> None:
    await add_key(store, total_micros=1000)
    workers = [start(url, "told", name, journal_dir) for name in "ab"]
    let_go(*workers)
    for worker in workers:
        assert said(worker) == "open"
    server.stop()
    for worker in workers:
        tell(worker, "during")
    server.start()
    await asyncio.gather(store.settle(settled("mine", 7)), store.replay(), store.replay())
    assert await sums(store) == (47, 0)
    for worker in workers:
        worker.communicate(timeout=30)
    assert len(await store.rows(since=0, limit=100)) == 11


def tell(worker: subprocess.Popen[str], word: str) -> None:
    """Has a worker book five requests; returns once it says that it did."""
    assert worker.stdin
    worker.stdin.write(f"{word}\n")
    worker.stdin.flush()
    assert said(worker) == word


def said(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout
    return worker.stdout.readline().strip()


async def test_connection_that_breaks_after_the_commit_changes_nothing_twice(store: SqlStore) -> None:
    await add_key(store, total_micros=100)
    breaking(store, times=1)
    assert await store.hold(order("r1", 30)) is None
    assert await sums(store) == (0, 30)
    breaking(store, times=1)
    assert (await store.settle(ended(held("r1", 30), 20))).cost_micros == 20
    assert await sums(store) == (20, 0)
    breaking(store, times=1)
    assert await store.hold(order("r2", 81)) == HoldRefusal("total", 80)


async def test_hold_that_nobody_can_vouch_for_says_so(store: SqlStore, server: PrivatePostgres) -> None:
    """Its row is there; whoever asked for it closes it, and nothing stays set aside."""
    await add_key(store, total_micros=100)
    breaking(store, times=1, then=server.stop)
    with pytest.raises(RecordsUnavailable) as caught:
        await store.hold(order("r1", 30))
    assert caught.value.unsure
    server.start()
    assert await sums(store) == (0, 30)
    await store.settle(ended(held("r1", 30), 0))
    assert await sums(store) == (0, 0)


async def test_connections_that_the_server_ends_are_made_anew(store: SqlStore, server: PrivatePostgres) -> None:
    """As when it is restarted between two requests: nobody is refused."""
    await add_key(store, total_micros=100)
    assert await store.keys()
    server.stop()
    server.start()
    assert await store.hold(order("r1", 30)) is None
    assert (await balance_of(store)).held_micros == 30


def breaking(store: SqlStore, *, times: int, then: object = None) -> None:
    """From now on so many commits succeed, and then their connection breaks before that is heard of."""
    dialect = store._database.writing.dialect
    commit, left = type(dialect).do_commit, [times]

    def do_commit(connection: PoolProxiedConnection) -> None:
        commit(dialect, connection)
        if left[0]:
            left[0] -= 1
            driver = connection.driver_connection
            assert driver is not None
            driver.close()
            if callable(then):
                then()
            raise DriverError("the connection is lost")

    dialect.do_commit = do_commit  # type: ignore[method-assign]  # no event comes between the commit and its answer


async def test_file_that_another_program_locks_for_a_while_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    store = await SqlStore.open(path)
    await add_key(store, total_micros=100)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        holding = asyncio.create_task(store.hold(order("r1", 30)))
        done, _ = await asyncio.wait([holding], timeout=0.2)
        assert not done
        assert (await balance_of(store)).held_micros == 0, "reading does not wait"
        other.execute("ROLLBACK")
    assert await holding is None
    assert await sums(store) == (0, 30)
    await store.aclose()


async def test_end_that_neither_database_nor_disk_takes_is_in_the_log_whole(
    store: SqlStore, server: PrivatePostgres, journal_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await add_key(store, total_micros=1000)
    [row] = await begun(store, 1)
    server.stop()
    journal_dir.write_text("a file where the folder should be")
    with pytest.raises(RecordsUnavailable):
        await store.settle(ended(row, 4))
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert '"request_id": "r0"' in record.getMessage()
    assert '"cost_micros": 4' in record.getMessage()
    server.start()
    assert await store.expire(100.1) == 1
    assert await sums(store) == (0, 0)
