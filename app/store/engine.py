"""Opens the database: a SQLite file, or Postgres. Two engines: one writes, one only reads, and neither waits for the
other."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry

from app.core.secret import Censor
from app.store.errors import StoreUnusable
from app.store.schema import prepare

DATABASE_NAME = "tuwen.db"
BUSY_TIMEOUT_S = 5.0
READERS = 4
_WAL_TRIES = 250
_WAL_RETRY_S = 0.02
_CONNECT_S = 3
_STATEMENT_S = 10

_FORM = "write it as postgresql://USER:PASSWORD@HOST:5432/DATABASE, with / @ : # of a password as %2F %40 %3A %23"

_SETTINGS = {
    # FULL: a commit is on the disk when it returns. Commits are grouped, so it costs next to nothing.
    "write": ("PRAGMA synchronous = FULL",),
    "read": ("PRAGMA query_only = ON",),
}
# IMMEDIATE takes the write lock at once, and waits for it: a lock taken in mid-transaction may fail without waiting.
_BEGIN = {"write": "BEGIN IMMEDIATE", "read": "BEGIN"}

_Role = Literal["write", "read"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records lie.

    Args:
        file: of SQLite; `None` on a server.
    """

    url: URL = field(repr=False)
    file: Path | None = None

    @classmethod
    def of(cls, data_dir: Path, database_url: str | None) -> Place:
        """The database that is set, else the file in the data folder.

        Raises:
            StoreUnusable: the address is none of Postgres. It is not told, and may be no cause either: what is read
                of a wrong one can be anything, a piece of the password as well.
        """
        if database_url is None:
            return cls.of_file(data_dir / DATABASE_NAME)
        try:
            return cls(_postgres_url(database_url))
        except (ArgumentError, ValueError):
            raise StoreUnusable(f"TUWEN_DATABASE_URL: {_FORM}") from None

    @classmethod
    def of_file(cls, file: Path) -> Place:
        return cls(URL.create("sqlite", database=str(file)), file)

    @property
    def censor(self) -> Censor:
        """Strikes from a driver's words what stands in the address: it repeats options that it does not know."""
        options = (word for name, value in self.url.query.items() for word in (name, *_words(value)))
        return Censor([self.url.password or "", *options])

    def __str__(self) -> str:
        """As it may be shown: nothing of an address that could be a password."""
        shown = self.url.set(username=None, password=None, query={})
        return str(self.file) if self.file is not None else shown.render_as_string()


def _words(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _postgres_url(text: str) -> URL:
    """The address, read.

    Raises:
        ArgumentError, ValueError: it is none; or it has two @, of which the first would end a password that holds one,
            and the rest of it would be shown as a host.
    """
    url = make_url(text)
    if url.get_backend_name() not in {"postgresql", "postgres"} or not url.database or text.count("@") > 1:
        raise ValueError
    text.encode()  # the driver sends it as UTF-8
    url = url.set(drivername="postgresql+psycopg")
    url.get_dialect()().create_connect_args(url)
    return url


def engine_of(place: Place, role: _Role) -> Engine:
    """An engine on the database."""
    return sqlite_engine(place.file, role) if place.file is not None else _postgres_engine(place.url, role)


def sqlite_engine(path: Path, role: _Role, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """An engine on the file, whose transactions are real ones: the driver's own idea of them is switched off."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": busy_timeout_s, "isolation_level": None, "check_same_thread": False},
        hide_parameters=True,  # they hold digests of keys, and errors go to the log
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


def _postgres_engine(url: URL, role: _Role) -> Engine:
    """READ COMMITTED throughout: what must not be seen half is decided by one statement, or behind the balance's lock.

    A statement that hangs is given up: behind it wait all that want to be booked.
    """
    read_only = " -c default_transaction_read_only=on" if role == "read" else ""
    return create_engine(
        url,
        paramstyle="format",
        hide_parameters=True,
        pool_size=READERS,
        max_overflow=0,
        pool_pre_ping=role == "read",
        connect_args={
            "connect_timeout": _CONNECT_S,
            "options": f"-c statement_timeout={_STATEMENT_S * 1000}{read_only}",
            "application_name": "tuwen",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": _STATEMENT_S * 1000,
        },
    )


def prepare_place(place: Place, engine: Engine, *, tries: int = _WAL_TRIES) -> str | None:
    """Makes the file if there is none, for its owner only, and brings the tables to those of this program.

    Args:
        tries: how often, 20 ms apart, to ask for the lock of a file that another program holds.

    Returns:
        The version the tables stood at; `None`: there were none.

    Raises:
        StoreUnusable: it cannot be made, reached or read, is no database, is locked, or a newer program wrote it.
    """
    try:
        if place.file is not None:
            place.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(place.file, os.O_RDWR | os.O_CREAT, 0o600))
            _switch_to_wal(place.file, tries)
        with engine.begin() as connection:
            return prepare(connection)
    except OSError as error:
        raise StoreUnusable.at(place.file or Path(), error) from error
    except (sqlite3.DatabaseError, DatabaseError) as error:
        words = place.censor(str(getattr(error, "orig", error)).strip().splitlines()[0])
        raise StoreUnusable(f"{place} cannot be used: {words}.") from error


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
