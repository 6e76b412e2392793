"""What the fetcher talks to in tests: a picture host it may reach, and a listener it must never reach."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web

ALLOWED_HOST = "127.0.0.2"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

Page: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class PictureHost:
    """Args: requests: what it was asked, as (path and query, headers)."""

    pages: Mapping[str, Page]
    port: int = 0
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.raw_path, request.headers.copy()))
        page = self.pages.get(request.path)
        return await page(request) if page else web.Response(status=404, text="no")

    @property
    def allow(self) -> str:
        """The allow-list entry that lets the fetcher in."""
        return f"{ALLOWED_HOST}/32:{self.port}"


def twin_listeners() -> tuple[socket.socket, socket.socket]:
    """Listeners of one port on the allowed address and on 127.0.0.1, whoever else takes ports at the same time."""
    while True:
        allowed = socket.create_server((ALLOWED_HOST, 0))
        try:
            return allowed, socket.create_server(("127.0.0.1", allowed.getsockname()[1]))
        except OSError:
            allowed.close()


@asynccontextmanager
async def picture_host(pages: Mapping[str, Page], listener: socket.socket | None = None) -> AsyncIterator[PictureHost]:
    host = PictureHost(pages)
    runner = web.ServerRunner(web.Server(host.answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.SockSite(runner, listener or socket.create_server((ALLOWED_HOST, 0)))
        await site.start()
        host.port = runner.addresses[0][1]
        yield host
    finally:
        await runner.cleanup()


@dataclass
class Canary:
    """Args: connections: how many reached it."""

    port: int = 0
    connections: int = 0


@asynccontextmanager
async def canary(listener: socket.socket | None = None) -> AsyncIterator[Canary]:
    """Counts who comes to an address that nobody may be led to."""
    seen = Canary()

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(PNG) + PNG)
        writer.close()

    server = await asyncio.start_server(count, sock=listener or socket.create_server(("127.0.0.1", 0)))
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        await server.wait_closed()
