"""Brings a database to the tables of this program, by alembic's steps. Processes may race here."""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from app.store.errors import StoreUnusable

HEAD = "0004"
"""The newest step; a test holds it to the folder of steps."""

_LOCK_ID = 7_881_026_190
"""Postgres' advisory lock of whoever migrates; any number nobody else uses."""


def prepare(connection: Connection) -> str | None:
    """Brings a new or older database to the tables of this program. The caller begins and commits; on SQLite the write
    lock is already held, on Postgres a lock is taken here until the commit.

    Returns:
        The version it stood at; `None`: it was new.

    Raises:
        StoreUnusable: a newer program wrote it.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
    version = _version(connection)
    if version == HEAD:
        return version
    if version is not None and version > HEAD:
        raise StoreUnusable(
            f"The database {connection.engine.url.database} was written by a newer version of tuwen (its format is "
            f"{version}, this program knows {HEAD}): start that version, or choose another database."
        )
    _upgrade(connection, version)
    return version


def _version(connection: Connection) -> str | None:
    """The step the database stands at; `None` where it is new."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return version
    if connection.dialect.name == "sqlite":  # files of before alembic count in the file's own version number
        number: int = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        return f"{number:04d}" if number else None
    return None


def _upgrade(connection: Connection, version: str | None) -> None:
    # imported here: it takes a tenth of a second, and most starts find nothing to do
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", "app.store:migrations")
    config.attributes["connection"] = connection
    if version is not None:
        command.stamp(config, version)
    command.upgrade(config, HEAD)
    if connection.dialect.name == "sqlite":  # programs of before alembic look here, and refuse what is newer
        connection.exec_driver_sql(f"PRAGMA user_version = {int(HEAD)}")
