"""Where the records lie: a test that asks for `place` or `store` runs on a SQLite file, and on Postgres."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from app.store.engine import Place
from app.store.sql import SqlStore
from app.store.tables import metadata
from tests.support.services import PrivatePostgres, postgres, postgres_url

__all__ = ["postgres", "postgres_url"]


@pytest.fixture(autouse=True)
def _warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a test before this one made of the process's logging."""
    caplog.set_level(logging.WARNING)


@pytest.fixture(scope="session")
def _reused(postgres: PrivatePostgres) -> Iterator[tuple[Place, Engine]]:
    """A database on Postgres for all tests of a process: making one takes longer than most of them."""
    place = Place.of(Path(), postgres.fresh_database())
    engine = create_engine(place.url)
    yield place, engine
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database that holds nothing."""
    if request.param == "sqlite":
        return Place.of(tmp_path / "data", None)
    place: Place
    place, engine = request.getfixturevalue("_reused")
    with engine.begin() as connection:
        if connection.exec_driver_sql("SELECT to_regclass('keys')").scalar():
            connection.exec_driver_sql(f"TRUNCATE {', '.join(metadata.tables)}")
    return place


@pytest.fixture(params=["sqlite", "postgres"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database that nobody ever opened."""
    if request.param == "sqlite":
        return Place.of(tmp_path / "data", None)
    return Place.of(Path(), request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(place: Place, tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(place, journal_dir=tmp_path / "journal")
    yield store
    await store.aclose()
