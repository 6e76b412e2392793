"""What was booked, for people: which requests a report is about, and who can say."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.accounts.balances import Balances
from app.accounts.interfaces import KeyStore, LedgerRow, UsageGrouping, UsageSummary

_PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Only:
    """Which requests a report is about. `None`: any.

    Args:
        until: Unix time in seconds before which they came.
        model: as the request names it, by its id in the catalogue.
        backend: one that was asked for it, whichever answered in the end.
    """

    until: float | None = None
    key_id: str | None = None
    model: str | None = None
    backend: str | None = None


EVERYTHING = Only()


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a page of rows ended: at this one."""

    started_at: float
    request_id: str

    @classmethod
    def of(cls, row: LedgerRow) -> Mark:
        return cls(row.started_at, row.request_id)


@dataclass(frozen=True, slots=True)
class AskedOnce:
    """One time that a backend was asked, as far as its bill is concerned.

    Args:
        number: of the attempt among those of its request; 0 for a request of before attempts were kept.
        started_at: of the request; Unix time in seconds.
        day: of the request, as `2026-11-28`, local time.
        cost_micros: as booked; 0 where `unpriced`.
        unpriced: something was used, and no tariff was known.
    """

    request_id: str
    number: int
    started_at: float
    day: str
    backend_request_id: str | None
    cost_micros: int
    unpriced: bool

    @property
    def billable(self) -> bool:
        """Whether a bill should know it."""
        return self.cost_micros > 0 or self.unpriced


class Reports(Protocol):
    """What was booked. Nothing here is asked while a request waits.

    Raises, all of them:
        RecordsUnavailable: the database cannot be reached.
    """

    async def rows(
        self, *, since: float, limit: int, only: Only = EVERYTHING, after: Mark | None = None
    ) -> Sequence[LedgerRow]:
        """The newest rows from `since` (Unix seconds) on, newest first.

        Args:
            after: the last row of the page before.
        """
        ...

    async def row(self, request_id: str) -> LedgerRow | None:
        """One request; `None` if none of this id was booked."""
        ...

    async def summary(self, by: UsageGrouping, *, since: float, only: Only = EVERYTHING) -> Sequence[UsageSummary]:
        """Rows from `since` on, added up per group, in the order of the group. By backend, each time that one was
        asked counts on its own."""
        ...

    async def asked(
        self, backend: str, *, since: float, until: float | None, limit: int, after: AskedOnce | None = None
    ) -> Sequence[AskedOnce]:
        """The times that a backend was asked, oldest first.

        Args:
            since, until: Unix times in seconds.
            after: the last one of the page before.
        """
        ...


class Records(KeyStore, Balances, Reports, Protocol):
    """All that an administrator sees and changes."""


async def all_rows(
    reports: Reports, *, since: float, only: Only = EVERYTHING
) -> AsyncGenerator[Sequence[LedgerRow], None]:
    """All rows from `since` (Unix seconds) on, newest first, a page at a time."""
    page = await reports.rows(since=since, limit=_PAGE_ROWS, only=only)
    while page:
        yield page
        page = await reports.rows(since=since, limit=_PAGE_ROWS, only=only, after=Mark.of(page[-1]))
