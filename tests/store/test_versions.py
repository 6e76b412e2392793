"""A database of an older program is brought to the tables of this one; one of a newer program is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

from app.accounts.balances import Balance, TopUp
from app.accounts.interfaces import KeyRecord
from app.store import schema
from app.store.engine import Place
from app.store.errors import StoreUnusable
from app.store.sql import SqlStore
from app.store.tables import metadata
from tests.accounts.records import a_row, an_attempt
from tests.store.processes import outputs, start
from tests.store.requests import order

# The statements that the programs of before alembic ran; such a file counts in its own version number.
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
INSERT INTO keys VALUES ('key_1', 'laptop', 'd1', 1, 10.0, NULL), ('key_2', 'idle', 'd2', 0, 11.0, 12.0);
INSERT INTO ledger VALUES
    ('old', 5.0, 'key_1', 'm', 'b', 'bm', NULL, 0, 1, 2, 3, 4, 5, 'counted', 'null', 6, NULL, 7, 'failed', 'some_code'),
    ('older', 4.0, 'key_1', 'm', 'b', 'bm', 'up', 1, 1, 2, 3, 4, 5, 'upstream', '{}', 3000000000, 8, 9, 'gone', NULL),
    ('nobodys', 3.0, 'local', 'm', 'b', 'bm', 'up', 1, 1, 2, 3, 4, 5, 'upstream', '{}', 50, 8, 9, 'finished', NULL);
"""
VERSION_2 = """
ALTER TABLE keys ADD COLUMN vendor_version INTEGER NOT NULL DEFAULT 1;
CREATE TABLE attempts (
    request_id VARCHAR NOT NULL, number INTEGER NOT NULL, model VARCHAR NOT NULL, backend VARCHAR NOT NULL,
    backend_model VARCHAR NOT NULL, backend_request_id VARCHAR, input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    image_count INTEGER NOT NULL, usage_source VARCHAR NOT NULL, tariff VARCHAR NOT NULL, cost_micros INTEGER NOT NULL,
    total_ms INTEGER NOT NULL, outcome VARCHAR NOT NULL, error_code VARCHAR, PRIMARY KEY (request_id, number)
) WITHOUT ROWID;
PRAGMA user_version = 2;
UPDATE keys SET vendor_version = 3 WHERE id = 'key_1';
INSERT INTO attempts VALUES
    ('old', 1, 'm', 'b', 'bm', NULL, 1, 2, 3, 4, 5, 'counted', 'null', 6, 7, 'failed', 'some_code'),
    ('old', 2, 'n', 'c', 'cm', 'up', 1, 2, 3, 4, 5, 'upstream', '{}', 0, 7, 'finished', NULL);
"""
OLD_ROW = a_row(
    request_id="old", started_at=5.0, key_id="key_1", model="m", backend="b", backend_model="bm",
    backend_request_id=None, stream=False, input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4,
    image_count=5, usage_source="counted", tariff="null", cost_micros=6, first_event_ms=None, total_ms=7,
    outcome="failed", error_code="some_code",
)  # fmt: skip
OLDER_ROW = replace(
    OLD_ROW, request_id="older", started_at=4.0, backend_request_id="up", stream=True, usage_source="upstream",
    tariff="{}", cost_micros=3_000_000_000, first_event_ms=8, total_ms=9, outcome="gone", error_code=None,
)  # fmt: skip
NOBODYS_ROW = replace(
    OLDER_ROW, request_id="nobodys", started_at=3.0, key_id="local", cost_micros=50, outcome="finished"
)
OLD_ATTEMPTS = (
    an_attempt(
        number=1, model="m", backend="b", backend_model="bm", backend_request_id=None, input_tokens=1, output_tokens=2,
        cached_tokens=3, reasoning_tokens=4, image_count=5, usage_source="counted", tariff="null", cost_micros=6,
        total_ms=7, outcome="failed", error_code="some_code",
    ),
    an_attempt(
        number=2, model="n", backend="c", backend_model="cm", backend_request_id="up", input_tokens=1, output_tokens=2,
        cached_tokens=3, reasoning_tokens=4, image_count=5, usage_source="upstream", tariff="{}", cost_micros=0,
        total_ms=7, outcome="finished",
    ),
)  # fmt: skip
ROWS = {
    1: [OLD_ROW, OLDER_ROW, NOBODYS_ROW],
    2: [replace(OLD_ROW, attempts=OLD_ATTEMPTS), OLDER_ROW, NOBODYS_ROW],
}


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    """Of the program that made the file."""
    return int(request.param)


@pytest.fixture
def path(tmp_path: Path, version: int) -> Path:
    path = tmp_path / "tuwen.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
        if version == 2:
            connection.executescript(VERSION_2)
    return path


def shape(engine: Engine) -> dict[str, object]:
    """Version, tables, columns, keys and indexes, as the database tells them."""
    found = inspect(engine)
    tables = sorted(found.get_table_names())
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchall()
        pragma = "PRAGMA user_version" if engine.dialect.name == "sqlite" else "SELECT 0"
        number = connection.exec_driver_sql(pragma).scalar()
    return {
        "version": (version, number),
        **{
            table: (
                [
                    (each["name"], str(each["type"]), each["nullable"], each["default"])
                    for each in found.get_columns(table)
                ],
                found.get_pk_constraint(table)["constrained_columns"],
                [each["column_names"] for each in found.get_unique_constraints(table)],
                sorted((each["name"], each["column_names"]) for each in found.get_indexes(table)),
            )
            for table in tables
        },
    }


def shape_of_file(path: Path) -> tuple[dict[str, object], object]:
    engine = create_engine(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        without_rowid = connection.execute("SELECT name FROM pragma_table_list WHERE wr = 1 ORDER BY 1").fetchall()
    try:
        return shape(engine), without_rowid
    finally:
        engine.dispose()


async def test_file_of_an_older_program_keeps_what_it_holds(path: Path, version: int) -> None:
    store = await SqlStore.open(path)
    assert await store.keys() == [
        KeyRecord("key_1", "laptop", "d1", admin=True, created_at=10.0, vendor_version=3 if version == 2 else 1),
        KeyRecord("key_2", "idle", "d2", admin=False, created_at=11.0, revoked_at=12.0),
    ]
    assert await store.rows(since=0, limit=10) == ROWS[version]
    await store.aclose()


async def test_balances_begin_with_what_was_spent(path: Path) -> None:
    store = await SqlStore.open(path)
    assert await store.balances() == {
        "key_1": Balance("key_1", spent_micros=3_000_000_006),
        "key_2": Balance("key_2"),
    }
    await store.aclose()


async def test_file_of_an_older_program_takes_what_is_new(path: Path, version: int) -> None:
    store = await SqlStore.open(path)
    assert await store.top_up(TopUp("t1", "key_1", 1.0, 100)) is not None
    assert await store.hold(order("new", 100)) is None
    row = a_row(request_id="another", attempts=(an_attempt(volume_before=2**40),))
    await store.settle(row)
    assert [found for found in await store.rows(since=0, limit=10) if found.request_id == "another"] == [row]
    assert len(await store.rows(since=0, limit=10)) == len(ROWS[version]) + 2
    balance = await store.balance("key_1")
    assert balance is not None
    assert (balance.spent_micros, balance.held_micros, balance.budget.total_micros) == (
        3_000_000_006,
        100,
        3_000_000_106,
    )
    await store.aclose()


async def test_file_brought_forward_has_the_shape_of_a_new_one(path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    for file in (path, fresh):
        await (await SqlStore.open(file)).aclose()
    assert shape_of_file(path) == shape_of_file(fresh)
    assert shape_of_file(path)[0]["version"] == ([(schema.HEAD,)], int(schema.HEAD))


async def test_file_brought_forward_is_opened_again(path: Path, version: int) -> None:
    for _ in range(3):
        store = await SqlStore.open(path)
        assert await store.rows(since=0, limit=10) == ROWS[version]
        await store.aclose()


async def test_keys_of_version_3_are_not_logged(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    key = KeyRecord("key_1", "laptop", "d1", admin=True, created_at=10.0, tags=("a",))
    store = await SqlStore.open(path)
    await store.add_key(replace(key, log_content=True))
    await store.aclose()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "ALTER TABLE keys DROP COLUMN log_content; UPDATE alembic_version SET version_num = '0003';"
            "PRAGMA user_version = 3;"
        )
    store = await SqlStore.open(path)
    assert await store.keys() == [key]
    await store.aclose()


async def test_step_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    """Half of a step must not stay: the next start would fall over it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE details (in_the_way INTEGER)")
        before = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    with pytest.raises(StoreUnusable, match="details already exists"):
        await SqlStore.open(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall() == before
        connection.execute("DROP TABLE details")
    await (await SqlStore.open(path)).aclose()


@pytest.mark.parametrize("number", [98, 10_000])
async def test_file_of_a_newer_program_of_before_alembic_is_refused(tmp_path: Path, number: int) -> None:
    path = tmp_path / "tuwen.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    with pytest.raises(StoreUnusable, match="newer version"):
        await SqlStore.open(path)


async def test_database_of_a_newer_program_is_refused_in_one_line_and_left_alone(new_place: Place) -> None:
    await (await SqlStore.open(new_place)).aclose()
    engine = create_engine(new_place.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9001'")
        connection.exec_driver_sql("DROP TABLE details")
    with pytest.raises(StoreUnusable) as caught:
        await SqlStore.open(new_place)
    told = str(caught.value)
    assert "newer version" in told
    assert "9001" in told
    assert schema.HEAD in told
    assert "\n" not in told
    assert "details" not in inspect(engine).get_table_names()
    engine.dispose()


async def test_password_of_the_database_is_not_told_to_whoever_is_refused(postgres_url: str) -> None:
    place = Place.of(Path(), postgres_url)
    await (await SqlStore.open(place)).aclose()
    engine = create_engine(place.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9001'")
    engine.dispose()
    with pytest.raises(StoreUnusable) as caught:
        await SqlStore.open(Place.of(Path(), postgres_url.replace("postgres@", "postgres:hunter2@")))
    assert "hunter2" not in str(caught.value)


async def test_tables_are_those_that_the_steps_make(new_place: Place) -> None:
    """Alembic's own comparison finds nothing left to do."""
    await (await SqlStore.open(new_place)).aclose()
    engine = create_engine(new_place.url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


async def test_comparison_sees_a_column_that_no_step_makes(new_place: Place) -> None:
    """So that the test above can fail."""
    await (await SqlStore.open(new_place)).aclose()
    engine = create_engine(new_place.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ledger DROP COLUMN queued_ms")
    with engine.connect() as connection:
        [(what, *_)] = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert what == "add_column"


def test_head_is_the_newest_step() -> None:
    config = Config()
    config.set_main_option("script_location", "app.store:migrations")
    steps = ScriptDirectory.from_config(config)
    assert steps.get_heads() == [schema.HEAD]
    revisions = [step.revision for step in steps.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True), "versions are compared as text"
    assert {len(revision) for revision in revisions} == {4}


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_processes_that_start_together_bring_a_file_forward_once(tmp_path: Path, version: int) -> None:
    path = tmp_path / "tuwen.db"
    if version:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(VERSION_1 + (VERSION_2 if version == 2 else ""))
    outputs(*(start(path, "open") for _ in range(3)))
    store = await SqlStore.open(path)
    assert await store.rows(since=0, limit=10) == (ROWS[version] if version else [])
    await store.aclose()


async def test_processes_that_start_together_make_one_database_on_postgres(postgres_url: str) -> None:
    outputs(*(start(postgres_url, "open") for _ in range(3)))
    engine = create_engine(Place.of(Path(), postgres_url).url)
    assert shape(engine)["version"] == ([(schema.HEAD,)], 0)
    engine.dispose()
