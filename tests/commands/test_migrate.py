"""`tuwen migrate`: the records in the form of this program."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from typer.testing import Result

from app.store.engine import Place, engine_of
from app.store.schema import HEAD

Tuwen = Callable[..., Result]


def test_new_records_are_made_and_then_there_is_nothing_to_do(tuwen: Tuwen, data_dir: Path) -> None:
    place = data_dir / "tuwen.db"
    assert tuwen("migrate").stdout == f"Made {place} at {HEAD}.\n"
    assert tuwen("migrate").stdout == f"{place} stands at {HEAD}; there is nothing to do.\n"


def test_records_of_a_newer_program_are_left_alone(tuwen: Tuwen, data_dir: Path) -> None:
    tuwen("migrate")
    with closing(sqlite3.connect(data_dir / "tuwen.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    result = tuwen("migrate")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "newer version of tuwen" in result.stderr


def test_records_of_before_are_brought_forward(tuwen: Tuwen, data_dir: Path) -> None:
    place = Place.of_file(data_dir / "tuwen.db")
    data_dir.mkdir()
    engine = engine_of(place, "write")
    steps = Config()
    steps.set_main_option("script_location", "app.store:migrations")
    with engine.begin() as connection:
        steps.attributes["connection"] = connection
        command.upgrade(steps, "0001")
    engine.dispose()
    assert tuwen("migrate").stdout == f"Brought {place} from 0001 to {HEAD}.\n"
    assert tuwen("keys", "create", "laptop", "--budget", "1").exit_code == 0
