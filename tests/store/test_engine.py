"""Opening the file: what is made, what is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.store.engine import prepare_file, sqlite_engine
from app.store.errors import StoreUnusable
from app.store.sql import SqlStore
from app.store.tables import SCHEMA_VERSION
from tests.accounts.records import a_row


async def refusal(path: Path) -> str:
    with pytest.raises(StoreUnusable) as caught:
        await SqlStore.open(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_rows_survive_a_second_start(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    for name in ("first", "second"):
        store = await SqlStore.open(path)
        await store.settle(a_row(request_id=name))
        rows = await store.rows(since=0, limit=10)
        await store.aclose()
    assert len(rows) == 2


async def test_file_carries_its_version_and_a_log_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    await (await SqlStore.open(path)).aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "newer version" in await refusal(path)


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    path.write_text("a letter to my aunt, longer than the header of a database" * 10)
    assert "not a database" in await refusal(path)


async def test_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    told = await refusal(tmp_path / "data" / "tuwen.db")
    assert "cannot be used: file exists." in told
    assert told.endswith("TUWEN_DATA_DIR.")


async def test_file_whose_log_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    Path(f"{path}-wal").mkdir()
    assert "cannot be used" in await refusal(path)


def test_file_locked_by_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnusable, match="locked by another program"):
            prepare_file(path, sqlite_engine(path, "write"), tries=3)
