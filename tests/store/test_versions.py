"""A file of an older program, made by the statements that it ran, is brought to the tables of this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.accounts.interfaces import KeyRecord
from app.store.sql import SqlStore
from app.store.tables import SCHEMA_VERSION
from tests.accounts.records import a_row, an_attempt

VERSION_1 = """
CREATE TABLE keys (
    id VARCHAR NOT NULL, name VARCHAR NOT NULL, digest VARCHAR NOT NULL, admin BOOLEAN NOT NULL,
    created_at FLOAT NOT NULL, revoked_at FLOAT, PRIMARY KEY (id), UNIQUE (digest)
);
CREATE TABLE ledger (
    request_id VARCHAR NOT NULL, started_at FLOAT NOT NULL, key_id VARCHAR NOT NULL, model VARCHAR NOT NULL,
    backend VARCHAR NOT NULL, backend_model VARCHAR NOT NULL, backend_request_id VARCHAR, stream BOOLEAN NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, image_count INTEGER NOT NULL, usage_source VARCHAR NOT NULL,
    tariff VARCHAR NOT NULL, cost_micros INTEGER NOT NULL, first_event_ms INTEGER, total_ms INTEGER NOT NULL,
    outcome VARCHAR NOT NULL, error_code VARCHAR, PRIMARY KEY (request_id)
);
CREATE INDEX ledger_started_at ON ledger (started_at);
PRAGMA user_version = 1;
INSERT INTO keys VALUES ('key_1', 'laptop', 'd1', 1, 10.0, NULL);
INSERT INTO ledger VALUES (
    'old', 5.0, 'key_1', 'm', 'b', 'bm', NULL, 0, 1, 2, 3, 4, 5, 'counted', 'null', 6, NULL, 7, 'failed', 'some_code'
);
"""
OLD_ROW = a_row(
    request_id="old", started_at=5.0, key_id="key_1", model="m", backend="b", backend_model="bm",
    backend_request_id=None, stream=False, input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4,
    image_count=5, usage_source="counted", tariff="null", cost_micros=6, first_event_ms=None, total_ms=7,
    outcome="failed", error_code="some_code",
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tuwen.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    return path


def shape(path: Path) -> dict[str, object]:
    """Version, tables, columns and indexes of a file, as SQLite tells them."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name, wr FROM pragma_table_list WHERE schema = 'main'").fetchall()
        return {
            "version": connection.execute("PRAGMA user_version").fetchone(),
            **{name: (wr, connection.execute(f"PRAGMA table_info({name})").fetchall()) for name, wr in tables},
            "indexes": sorted(connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index'")),
        }


async def test_file_of_version_1_keeps_what_it_holds(path: Path) -> None:
    store = await SqlStore.open(path)
    assert await store.keys() == [KeyRecord("key_1", "laptop", "d1", admin=True, created_at=10.0, vendor_version=1)]
    assert await store.rows(since=0, limit=10) == [OLD_ROW]
    await store.aclose()


async def test_file_of_version_1_takes_what_is_new(path: Path) -> None:
    store = await SqlStore.open(path)
    row = a_row(attempts=(an_attempt(),))
    await store.settle(row)
    assert await store.renew_vendor_secret("key_1") == 2
    assert await store.rows(since=0, limit=10) == [row, OLD_ROW]
    await store.aclose()


async def test_file_brought_forward_has_the_shape_of_a_new_one(path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    for file in (path, fresh):
        await (await SqlStore.open(file)).aclose()
    assert shape(path) == shape(fresh)
    assert shape(path)["version"] == (SCHEMA_VERSION,)


async def test_file_brought_forward_is_opened_again(path: Path) -> None:
    for _ in range(2):
        await (await SqlStore.open(path)).aclose()
    assert shape(path)["version"] == (SCHEMA_VERSION,)
