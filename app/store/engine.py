"""Opens the SQLite file. Two engines: one writes, one only reads, and neither waits for the other (WAL)."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from app.store.errors import StoreUnusable
from app.store.tables import prepare

BUSY_TIMEOUT_S = 5.0
_WAL_TRIES = 250
_WAL_RETRY_S = 0.02

_SETTINGS = {
    # FULL: a commit is on the disk when it returns. Commits are grouped, so it costs next to nothing.
    "write": ("PRAGMA synchronous = FULL",),
    "read": ("PRAGMA query_only = ON",),
}
# IMMEDIATE takes the write lock at once, and waits for it: a lock taken in mid-transaction may fail without waiting.
_BEGIN = {"write": "BEGIN IMMEDIATE", "read": "BEGIN"}


def sqlite_engine(path: Path, role: Literal["write", "read"], *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """An engine on the file, whose transactions are real ones: the driver's own idea of them is switched off."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": busy_timeout_s, "isolation_level": None, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for setting in _SETTINGS[role]:
            cursor.execute(setting)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(_BEGIN[role])

    return engine


def prepare_file(path: Path, engine: Engine, *, tries: int = _WAL_TRIES) -> None:
    """Makes the file if there is none, for its owner only, and its tables. Processes may race here.

    Args:
        tries: how often, 20 ms apart, to ask for the lock of a file that another program holds.

    Raises:
        StoreUnusable: the file cannot be made or read, is no database, is locked, or a newer program wrote it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        _switch_to_wal(path, tries)
        with engine.begin() as connection:
            prepare(connection)
    except OSError as error:
        raise StoreUnusable.at(path, error) from error
    except (sqlite3.DatabaseError, DatabaseError) as error:
        raise StoreUnusable(f"{path} cannot be used: {getattr(error, 'orig', error)}.") from error


def _switch_to_wal(path: Path, tries: int) -> None:
    """Turns write-ahead logging on; the file remembers. SQLite does not wait for the lock it takes here, so we do."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        for _ in range(tries):
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                time.sleep(_WAL_RETRY_S)
            else:
                return
    raise StoreUnusable(f"{path} is locked by another program.")
