"""Opening the records: what is made, what is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from traceback import format_exception

import pytest
from sqlalchemy.exc import DatabaseError

from app.store.engine import DATABASE_NAME, Place, engine_of, prepare_place, sqlite_engine
from app.store.errors import StoreUnusable
from app.store.schema import HEAD
from app.store.sql import SqlStore
from tests.accounts.records import a_row
from tests.support.gateway import free_port


async def refusal(place: Place | Path) -> str:
    with pytest.raises(StoreUnusable) as caught:
        await SqlStore.open(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_rows_survive_a_second_start(place: Place) -> None:
    for name in ("first", "second"):
        store = await SqlStore.open(place)
        await store.settle(a_row(request_id=name))
        rows = await store.rows(since=0, limit=10)
        await store.aclose()
    assert len(rows) == 2


async def test_file_carries_its_version_and_a_log_for_readers(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    await (await SqlStore.open(path)).aclose()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (int(HEAD),)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_commit_of_a_file_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "tuwen.db", "write")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


async def test_who_reads_cannot_write(place: Place) -> None:
    await (await SqlStore.open(place)).aclose()
    engine = engine_of(place, "read")
    with pytest.raises(DatabaseError), engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM ledger")
    engine.dispose()


async def test_statement_that_hangs_on_the_server_is_given_up(postgres_url: str) -> None:
    engine = engine_of(Place.of(Path(), postgres_url), "write")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "10s"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "tuwen"
    engine.dispose()


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuwen.db"
    path.write_text("a letter to my aunt, longer than the header of a database" * 10)
    told = await refusal(path)
    assert "not a database" in told
    assert str(path) in told


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
    engine = sqlite_engine(path, "write")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnusable, match="locked by another program"):
            prepare_place(Place.of_file(path), engine, tries=3)
    engine.dispose()


async def test_server_that_is_not_there_is_refused_without_the_password() -> None:
    address = f"postgresql://tuwen:hunter2@127.0.0.1:{free_port()}/tuwen"
    told = await refusal(Place.of(Path(), address))
    assert "cannot be used: " in told
    assert "hunter2" not in told


async def test_database_that_is_not_there_is_refused(postgres_url: str) -> None:
    told = await refusal(Place.of(Path(), postgres_url + "_gone"))
    assert "does not exist" in told


@pytest.mark.parametrize(
    "address",
    [
        "mysql://root@localhost/tuwen",
        "sqlite:///tuwen.db",
        "postgresql://localhost",
        "postgresql://localhost/",
        "localhost:5432/tuwen",
        "",
        "postgresql://localhost:port/tuwen",
        "postgresql://u:p@localhost/tuwen?host=a&host=b&port=1",
        "postgresql://u:\udcff@localhost/tuwen",
    ],
)
def test_address_of_no_postgres_database_is_refused_with_the_form_it_should_have(address: str) -> None:
    with pytest.raises(StoreUnusable, match=r"TUWEN_DATABASE_URL: write it as postgresql://"):
        Place.of(Path(), address)


@pytest.mark.parametrize("password", ["a@hunter2", "hunter2@b", "a@/hunter2", "a@:hunter2", "a@b/c?hunter2"])
def test_password_with_an_unquoted_at_sign_is_not_taken_for_a_host_and_shown(password: str) -> None:
    with pytest.raises(StoreUnusable, match="of a password as %2F %40") as refused:
        Place.of(Path(), f"postgresql://tuwen:{password}@127.0.0.1:9/tuwen")
    assert "hunter2" not in "".join(format_exception(refused.value))


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2"])
def test_address_may_be_written_as_others_write_it(scheme: str) -> None:
    place = Place.of(Path("/nowhere"), f"{scheme}://me:secret@db:5433/tuwen")
    assert str(place) == "postgresql+psycopg://me:***@db:5433/tuwen"
    assert place.file is None


def test_unset_address_is_the_file_in_the_data_folder(tmp_path: Path) -> None:
    assert str(Place.of(tmp_path, None)) == str(tmp_path / DATABASE_NAME)
