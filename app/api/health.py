"""GET /healthz and /readyz: for load balancers and containers; they need no key and tell nothing.

The first says that the process lives: one that does not is to be started anew. The second says whether requests should
be sent here: not once it was told to end, and not while its records are away.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.gateway.draining import Draining


def router(draining: Draining, records_away: Callable[[], bool]) -> APIRouter:
    """The routes.

    Args:
        records_away: whether the ledger is known not to take anything; asked at every probe, so it must cost nothing.
    """
    routes = APIRouter(tags=["health"])

    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", summary="Say that the process serves")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", summary="Say whether to send requests here", response_class=JSONResponse)
    async def readyz() -> Response:
        if draining.begun:
            return JSONResponse({"status": "draining"}, 503)
        if records_away():
            return JSONResponse({"status": "records away"}, 503)
        return JSONResponse({"status": "ready"})

    return routes
