"""/admin: keys, money and usage, for administrators. Times without an offset, and days, are of the gateway's wall."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from app.accounts.details import Details
from app.accounts.keys import KeyMint
from app.accounts.reports import Records
from app.api.admin_keys import KeyRoutes
from app.api.admin_reports import ReportRoutes
from app.api.deps import AdminOf, CallerOf
from app.api.intake import Intake
from app.core.clock import Clock


def router(
    records: Records,
    *,
    details: Details,
    mint: KeyMint,
    caller_of: CallerOf,
    clock: Clock,
    intake: Intake,
    max_body_bytes: int,
) -> APIRouter:
    """The routes, for keys that may administer.

    Args:
        intake: the room for bodies.
        max_body_bytes: of a bill.
    """
    routes = APIRouter(prefix="/admin", dependencies=[Depends(AdminOf(caller_of))], tags=["admin"])
    KeyRoutes(records, mint, clock).add_to(routes)
    ReportRoutes(records, details, clock, intake, max_body_bytes=max_body_bytes).add_to(routes)
    return routes
