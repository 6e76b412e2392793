"""GET /v1/usage: what a key used itself, for whoever holds it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.accounts.balances import Balance
from app.accounts.exports import iso_time, summary_record
from app.accounts.interfaces import Caller
from app.accounts.reports import Only, Records
from app.api.admin_queries import PeriodQuery, read_period
from app.api.admin_wire import answer, balance_object
from app.api.deps import CallerOf
from app.core.clock import Clock, local_day


class UsageRoutes:
    """What a key used."""

    def __init__(self, records: Records, caller_of: CallerOf, clock: Clock) -> None:
        self._records = records
        self._caller_of = caller_of
        self._clock = clock

    async def usage(self, request: Request, asked: Annotated[PeriodQuery, Query()]) -> Response:
        """Where the key stands, and its own use by day and by model. Amounts are micro-yuan of the budget's yuan."""
        caller = await self._caller_of(request)
        now = self._clock.now()
        start, end = read_period(asked.since, asked.until, now)
        only = Only(until=end, key_id=caller.key_id)
        by_day = await self._records.summary("day", since=start or 0.0, only=only)
        by_model = await self._records.summary("model", since=start or 0.0, only=only)
        return answer(
            {
                "object": "usage",
                "key": {"id": caller.key_id, "name": caller.name},
                "currency": "CNY",
                "balance": balance_object(await balance_of(self._records, caller), local_day(now)),
                "since": iso_time(start or 0.0),
                "until": None if end is None else iso_time(end),
                "by_day": [summary_record("day", group) for group in by_day],
                "by_model": [summary_record("model", group) for group in by_model],
            }
        )


async def balance_of(records: Records, caller: Caller) -> Balance:
    """Where a caller stands now; one without a key in the records has no bounds."""
    return await records.balance(caller.key_id) or Balance(caller.key_id)


def router(records: Records, caller_of: CallerOf, clock: Clock) -> APIRouter:
    """The route, for callers with a key."""
    routes = APIRouter(prefix="/v1", tags=["usage"])
    usage = UsageRoutes(records, caller_of, clock).usage
    routes.add_api_route("/usage", usage, methods=["GET"], summary="Show what this key used, and has left")
    return routes
