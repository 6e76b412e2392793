"""Keeps the books of this process true: pushes on the leases of its open rows, and closes those of the dead.

The rule for rows whose gateway died: once the lease has run out, whoever finds such a row closes it as it last stood.
Nothing was dispatched: nothing is paid. A backend was asked: the prompt is paid, and what of the answer was noted,
which is at most `RENEW_S` old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from app.accounts.details import Details
from app.accounts.interfaces import Ledger, LedgerRow
from app.core.clock import Clock
from app.core.errors import RecordsUnavailable
from app.observe.metrics import Metrics, Reading

RENEW_S = 5.0
_FORGET_S = 600.0
_DAY_S = 86_400.0

_log = structlog.get_logger(__name__)


class OpenRequest(Protocol):
    """A request under way."""

    @property
    def is_stored(self) -> bool:
        """Whether a row of it is open in the ledger."""
        ...

    def standing(self) -> LedgerRow:
        """The row as it stands, its lease pushed on."""
        ...


class Books:
    """The open requests of this process.

    Args:
        renew_s: how often their leases are pushed on, and the rows of the dead looked for.
    """

    def __init__(self, ledger: Ledger, clock: Clock, *, renew_s: float = RENEW_S) -> None:
        self._ledger = ledger
        self._clock = clock
        self._renew_s = renew_s
        self._open: set[OpenRequest] = set()

    @property
    def open_count(self) -> int:
        """Requests under way."""
        return len(self._open)

    def readings(self) -> Iterator[Reading]:
        """For whoever looks after the gateway."""
        yield Reading("tuwen_open_requests", "Requests under way.", self.open_count)

    def opened(self, request: OpenRequest) -> None:
        """A request began."""
        self._open.add(request)

    def closed(self, request: OpenRequest) -> None:
        """It ended; its row is on the way to the ledger."""
        self._open.discard(request)

    async def keep_leases(self) -> None:
        """Pushes on the leases of our rows; runs until cancelled."""
        await self._regularly(self.renew)

    async def keep_clean(self) -> None:
        """Closes the rows of the dead; runs until cancelled. Beside the leases: a long journal must not delay them."""
        await self._regularly(self.sweep)

    async def renew(self) -> None:
        """One round of leases, with what was counted by now.

        Raises:
            RecordsUnavailable: the ledger cannot be written.
        """
        await self._ledger.note([request.standing() for request in self._open if request.is_stored])

    async def sweep(self) -> None:
        """One round of what others, or we, left behind. Our own leases come first: after an outage they too have run
        out.

        Raises:
            RecordsUnavailable: the ledger cannot be written.
        """
        failure = None
        try:
            if replayed := await self._ledger.replay():
                _log.info("rows booked that had waited in the journal", rows=replayed)
        except RecordsUnavailable as error:
            failure = error
        await self.renew()
        if expired := await self._ledger.expire(self._clock.now()):
            _log.warning("rows closed whose gateway died", rows=expired)
        if failure is not None:
            raise failure

    async def _regularly(self, work: Callable[[], Awaitable[None]]) -> None:
        away = False
        while True:
            try:
                await work()
            except RecordsUnavailable as error:
                if not away:  # said once an outage
                    _log.warning("the records are away; settlements wait in the journal", detail=error.detail)
                away = True
            else:
                away = False
            await asyncio.sleep(self._renew_s)


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """All that is told of a request.

    Args:
        ledger: what it cost.
        books: that it is open.
        details: what went wrong, for a while.
        metrics: that it was.
    """

    ledger: Ledger
    books: Books
    details: Details
    metrics: Metrics


async def forget_details(details: Details, clock: Clock, *, days: int) -> None:
    """Drops details by their age, now and then; runs until cancelled."""
    while True:
        with suppress(RecordsUnavailable):
            while await details.forget(clock.now() - days * _DAY_S):
                pass  # so many at once, until none is left
        await asyncio.sleep(_FORGET_S)
