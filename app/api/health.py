"""GET /healthz: for load balancers and containers; needs no key, tells nothing."""

from __future__ import annotations

from fastapi import APIRouter


def router() -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["health"])

    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", summary="Say that the process serves")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return routes
