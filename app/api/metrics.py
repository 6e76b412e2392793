"""GET /metrics: for administrators and their Prometheus, which sends the key as a bearer token."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import Response

from app.api.deps import AdminOf, CallerOf
from app.observe.metrics import CONTENT_TYPE, Metrics


def router(metrics: Metrics, caller_of: CallerOf) -> APIRouter:
    """The route."""
    routes = APIRouter(dependencies=[Depends(AdminOf(caller_of))], tags=["admin"])

    @routes.get("/metrics", response_class=Response)
    async def show() -> Response:
        """This process's numbers, in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return routes
