"""/dashboard/billing: what chat clients of the one-api family read to show a balance.

The shapes are those of one-api's `controller/billing.go`. The fields say USD; clients show the bare number, and here it
is yuan. As there, the limit is all that may ever be spent, the usage is all that was ever spent in hundredths, whatever
dates are asked for: clients subtract one from the other.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from app.accounts.reports import Records
from app.api.deps import CallerOf
from app.api.usage import balance_of
from app.core.money import MICROS_PER_YUAN

_UNLIMITED_YUAN = 100_000_000
"""What one-api says of a key without a limit; clients know it."""
_PREFIXES = ("/dashboard/billing", "/v1/dashboard/billing")


class BillingRoutes:
    """A key's balance, in the words of others."""

    def __init__(self, records: Records, caller_of: CallerOf) -> None:
        self._records = records
        self._caller_of = caller_of

    async def subscription(self, request: Request) -> dict[str, Any]:
        """What the key may spend, and until when it works."""
        caller = await self._caller_of(request)
        balance = await balance_of(self._records, caller)
        held = await self._records.key_by_id(caller.key_id)
        expires_at = None if held is None else held.record.expires_at
        total_micros = balance.budget.total_micros
        limit_yuan = _UNLIMITED_YUAN if total_micros is None else max(0, total_micros) / MICROS_PER_YUAN
        return {
            "object": "billing_subscription",
            "has_payment_method": True,
            "soft_limit_usd": limit_yuan,
            "hard_limit_usd": limit_yuan,
            "system_hard_limit_usd": limit_yuan,
            "access_until": 0 if expires_at is None else int(expires_at),
        }

    async def usage(self, request: Request) -> dict[str, Any]:
        """What the key has spent, in hundredths of a yuan."""
        balance = await balance_of(self._records, await self._caller_of(request))
        return {"object": "list", "total_usage": balance.spent_micros * 100 / MICROS_PER_YUAN}


def router(records: Records, caller_of: CallerOf) -> APIRouter:
    """The routes, for callers with a key."""
    routes, billing = APIRouter(tags=["usage"]), BillingRoutes(records, caller_of)
    for prefix in _PREFIXES:
        listed = prefix == _PREFIXES[0]
        routes.add_api_route(
            f"{prefix}/subscription",
            billing.subscription,
            methods=["GET"],
            summary="Show this key's limit, as one-api does",
            include_in_schema=listed,
        )
        routes.add_api_route(
            f"{prefix}/usage",
            billing.usage,
            methods=["GET"],
            summary="Show what this key spent, as one-api does",
            include_in_schema=listed,
        )
    return routes
