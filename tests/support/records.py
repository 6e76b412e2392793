"""The books, read by SQL and by nothing of ours: from a SQLite file, or from Postgres."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import psycopg


@dataclass(frozen=True, slots=True)
class BookedRequest:
    """A row of the table `ledger`."""

    request_id: str
    started_at: float
    key_id: str
    model: str
    backend_request_id: str | None
    stream: bool
    input_tokens: int
    output_tokens: int
    usage_source: str
    cost_micros: int
    outcome: str
    error_code: str | None
    state: str
    hold_micros: int
    lease_until: float | None
    queued_ms: int

    @property
    def is_open(self) -> bool:
        return self.state in {"held", "dispatched"}


@dataclass(frozen=True, slots=True)
class BookedAttempt:
    """A row of the table `attempts`."""

    request_id: str
    number: int
    backend_model: str
    backend_request_id: str | None
    input_tokens: int
    output_tokens: int
    usage_source: str
    cost_micros: int
    outcome: str


@dataclass(frozen=True, slots=True)
class BookedBalance:
    """A row of the table `balances`."""

    key_id: str
    credit_micros: int | None
    spent_micros: int
    held_micros: int


@dataclass(frozen=True, slots=True)
class BookedKey:
    """A row of the table `keys`."""

    id: str
    revoked_at: float | None


_Row = TypeVar("_Row", BookedRequest, BookedAttempt, BookedBalance, BookedKey)


@dataclass(frozen=True, slots=True)
class Records:
    """A database.

    Args:
        place: a file of SQLite, or an address of Postgres.
    """

    place: Path | str

    def requests(self) -> list[BookedRequest]:
        """All requests, oldest first."""
        return sorted(self._all("ledger", BookedRequest), key=lambda row: row.started_at)

    def attempts(self) -> list[BookedAttempt]:
        return self._all("attempts", BookedAttempt)

    def balances(self) -> dict[str, BookedBalance]:
        """Balances by key."""
        return {row.key_id: row for row in self._all("balances", BookedBalance)}

    def revoked_at(self, key_id: str) -> float | None:
        """When a key was revoked: Unix time in seconds."""
        return {row.id: row.revoked_at for row in self._all("keys", BookedKey)}[key_id]

    def open_requests(self) -> list[BookedRequest]:
        """Those that hold money, or may."""
        return [row for row in self.requests() if row.is_open]

    def unbalanced(self) -> dict[str, tuple[int, int]]:
        """Keys whose balance is not the sum of their rows: what is off of what they spent, and of what they hold."""
        spent: defaultdict[str, int] = defaultdict(int)
        held: defaultdict[str, int] = defaultdict(int)
        for row in self.requests():
            if row.is_open:
                held[row.key_id] += row.hold_micros
            else:
                spent[row.key_id] += row.cost_micros
        off = {
            key_id: (balance.spent_micros - spent[key_id], balance.held_micros - held[key_id])
            for key_id, balance in self.balances().items()
        }
        return {key_id: both for key_id, both in off.items() if both != (0, 0)}

    def _all(self, table: str, row_type: type[_Row]) -> list[_Row]:
        columns = ", ".join(field.name for field in fields(row_type))
        return [row_type(*row) for row in self._fetched(f"SELECT {columns} FROM {table}")]  # noqa: S608 - our own names

    def _fetched(self, query: str) -> Sequence[Sequence[Any]]:
        if isinstance(self.place, Path):
            with closing(sqlite3.connect(f"file:{self.place}?mode=ro", uri=True, timeout=10)) as connection:
                return connection.execute(query).fetchall()
        with psycopg.connect(self.place) as served:
            return served.execute(query.encode()).fetchall()
