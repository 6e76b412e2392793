"""All records in one database: a SQLite file, or Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from app.observe.metrics import Reading
from app.store.answers import SqlAnswers, change_answers
from app.store.database import Database
from app.store.details import SqlDetails, dropped, write_details
from app.store.engine import DATABASE_NAME, Place
from app.store.journal import Journal
from app.store.keys import SqlKeys
from app.store.ledger import SqlLedger, hold, note, settle, settle_kept
from app.store.reports import SqlReports

__all__ = ["DATABASE_NAME", "SqlStore"]


class SqlStore(SqlLedger, SqlKeys, SqlReports):
    """Keys, balances, ledger and reports. Several processes may open the same database.

    Use `SqlStore.open`, and `aclose` when done.

    Attributes:
        details: what is kept beside the ledger for a while.
        journal: where rows wait while the database is away.
    """

    def __init__(self, database: Database, journal: Journal) -> None:
        # in the order in which they must be done where one commit holds several of a request
        bulks = (change_answers, hold, note, settle, settle_kept, write_details)
        database.start(bulks, {settle: journal.keep, write_details: dropped})
        SqlLedger.__init__(self, database, journal)
        SqlKeys.__init__(self, database)
        SqlReports.__init__(self, database)
        self.journal = journal
        self.details = SqlDetails(database)

    def readings(self) -> Iterator[Reading]:
        """For whoever looks after the gateway."""
        yield Reading("tuwen_ledger_commits_total", "Commits; requests share them.", self.commits)
        yield Reading("tuwen_journal_waiting", "1 while rows wait for the database.", int(not self.journal.is_empty))
        yield Reading("tuwen_details_dropped_total", "Details that were not kept.", self.details.dropped)

    @property
    def is_away(self) -> bool:
        """Whether the last commit failed; gateways try one every few seconds."""
        return self._database.writer.is_down

    def answers(self, secret: bytes, *, max_bytes: int) -> SqlAnswers:
        """What is kept for an Idempotency-Key.

        Args:
            secret: the server's.
            max_bytes: of all answers together.
        """
        return SqlAnswers(self._database, secret, max_bytes=max_bytes)

    @classmethod
    async def open(cls, place: Place | Path, *, journal_dir: Path | None = None) -> Self:
        """Opens the database; a file is made where there is none.

        Args:
            place: a path is that of a SQLite file.
            journal_dir: where rows wait while the database is away; unset: beside the file.

        Raises:
            StoreUnusable: it cannot be made, reached or read, is no database, is locked, or a newer program wrote it.
        """
        if isinstance(place, Path):
            place = Place.of_file(place)
        folder = journal_dir or (place.file.parent if place.file is not None else Path())
        return cls(await Database.prepared(place), Journal(folder))

    async def aclose(self) -> None:
        """Writes what was handed over, then lets go of the database."""
        await self._database.aclose()
