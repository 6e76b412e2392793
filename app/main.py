"""Mounts the routes on the services: the web app."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from app import __version__
from app.api import admin, billing, errors, health, models, usage
from app.api import metrics as api_metrics
from app.api.arrival import PACE, Pace
from app.api.blobs import blob_routes
from app.api.chat import ChatEndpoint
from app.api.deps import CallerOf
from app.api.middleware import Edge
from app.api.openapi import describe
from app.api.vendor import chatocr
from app.api.vendor.baidu_auth import BaiduAuth
from app.config.settings import Settings, load_settings
from app.core.clock import Clock
from app.gateway.draining import Draining
from app.services import Services, copies_folder, open_services, tell_where_copies_lie

_CHAT = "/v1/chat/completions"


class _TuwenApp(FastAPI):
    """FastAPI with our edge outside even its own last error handler, so that a crash has CORS headers too."""

    edge_clock: Clock = Clock()
    edge_origins: Collection[str] = ("*",)
    edge_draining: Draining
    hot: dict[str, ASGIApp]

    def build_middleware_stack(self) -> ASGIApp:
        return Edge(
            super().build_middleware_stack(),
            hot=self.hot,
            clock=self.edge_clock,
            draining=self.edge_draining,
            origins=self.edge_origins,
        )


def create_app(
    settings: Settings | None = None, clock: Clock | None = None, draining: Draining | None = None
) -> FastAPI:
    """The web app. Services open with its lifespan; two apps share nothing.

    Args:
        draining: whoever ends the process tells it; unset: nobody does.

    Raises:
        ConfigError: a setting is wrong.
    """
    chosen = settings or load_settings()
    ticking = clock or Clock()
    ending = draining or Draining()
    folder = copies_folder(chosen)

    @asynccontextmanager
    async def lifespan(app: _TuwenApp) -> AsyncIterator[dict[str, Any]]:
        async with open_services(chosen, ticking, draining=ending) as services:
            tell_where_copies_lie(chosen, folder)
            _mount(app, services, ending)
            yield {PACE: Pace(chosen.arrival_s, chosen.stall_s)}

    app = _TuwenApp(
        title="Tuwen 图问",
        summary="One OpenAI-compatible endpoint for vision models",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.edge_clock, app.edge_origins, app.edge_draining = ticking, chosen.cors_origins, ending
    app.hot = {}
    errors.install(app)
    describe(app)
    return app


def _mount(app: _TuwenApp, services: Services, draining: Draining) -> None:
    settings = services.settings
    chat = ChatEndpoint(
        gateway=services.gateway,
        authenticator=services.door,
        idempotency=services.idempotency,
        intake=services.intake,
        clock=services.clock,
        heartbeat_s=settings.heartbeat_s,
        deadline_s=settings.deadline_s,
        max_body_bytes=settings.max_body_bytes,
        max_images=settings.max_images,
    )
    app.hot[_CHAT] = chat
    app.router.routes.append(Route(_CHAT, chat, methods=["POST"]))  # refuses other methods, and names this one
    app.router.routes.extend(_baidu_routes(services))
    app.include_router(models.router(services.catalogs, CallerOf(services.door)))
    app.include_router(health.router(draining, _records_away(services)))
    _mount_accounts(app, services)
    if services.copies is not None:
        app.router.routes.extend(blob_routes(services.copies, urlsplit(settings.public_url or "").path))


def _records_away(services: Services) -> Callable[[], bool]:
    """Whether nothing could be booked at the moment; where nothing is booked, that does not matter."""
    return (lambda: False) if services.settings.open_access else (lambda: services.store.is_away)


def _mount_accounts(app: FastAPI, services: Services) -> None:
    """What tells of keys, money and usage. Administrators need their key even where nobody else needs one."""
    store, clock, door = services.store, services.clock, CallerOf(services.door)
    app.include_router(usage.router(store, door, clock))
    app.include_router(billing.router(store, door))
    app.include_router(api_metrics.router(services.metrics, CallerOf(services.authenticator)))
    app.include_router(
        admin.router(
            store,
            details=store.details,
            mint=services.mint,
            caller_of=CallerOf(services.authenticator),
            clock=clock,
            intake=services.intake,
            max_body_bytes=services.settings.max_body_bytes,
        )
    )


def _baidu_routes(services: Services) -> list[BaseRoute]:
    settings = services.settings
    auth = BaiduAuth(services.authenticator, services.clock.now)
    plugin = chatocr.PluginEndpoint(
        gateway=services.gateway,
        auth=auth,
        intake=services.intake,
        catalog=lambda: services.catalogs.current,
        heartbeat_s=settings.heartbeat_s,
        deadline_s=settings.deadline_s,
        max_body_bytes=settings.max_body_bytes,
    )
    return chatocr.routes(plugin, auth, services.intake)
