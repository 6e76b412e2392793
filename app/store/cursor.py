"""The driver's own cursor, for statements that run once per request: SQLAlchemy's way costs more than they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class Cursor:
    """Runs SQL with `?` for parameters, on either database."""

    def __init__(self, raw: Any, dialect: str) -> None:
        self._raw = raw
        self.postgres = dialect == "postgresql"

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""
        self._raw.execute(self._written(sql), parameters)
        return list(self._raw.fetchall())

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Runs a statement once per row of parameters."""
        if rows:
            self._raw.executemany(self._written(sql), rows)

    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...] | None]:
        """Runs a statement that returns a row or none, once per row of parameters, each seeing what those before it
        did; on Postgres in one round trip."""
        if not self.postgres:
            return [next(iter(self.all(sql, row)), None) for row in rows]
        found: list[tuple[Any, ...] | None] = []
        if rows:
            self._raw.executemany(self._written(sql), rows, returning=True)
            for _ in rows:
                found.append(self._raw.fetchone())
                self._raw.nextset()
        return found

    def one_of(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a statement that holds `(*)` in the place of a list of values."""
        return self.all(sql.replace("(*)", f"({','.join('?' * len(values))})"), values) if values else []

    def _written(self, sql: str) -> str:
        return sql.replace("?", "%s") if self.postgres else sql


@contextmanager
def cursor_of(connection: Connection) -> Iterator[Cursor]:
    """The cursor of a connection that is in a transaction.

    Raises:
        DBAPIError: what the driver raised, as SQLAlchemy names it; a connection that broke is marked so.
    """
    dialect = connection.dialect
    driver = dialect.loaded_dbapi
    raw: Any = None
    try:
        raw = connection.connection.cursor()
        yield Cursor(raw, dialect.name)
    except driver.Error as error:
        broken = dialect.is_disconnect(error, connection.connection.dbapi_connection, raw)
        wrapped = DBAPIError.instance(
            None, None, error, driver.Error, connection_invalidated=broken, dialect=dialect, hide_parameters=True
        )
        if broken:
            connection.invalidate(error)
        raise wrapped from error
    finally:
        if raw is not None and not connection.invalidated:
            raw.close()
