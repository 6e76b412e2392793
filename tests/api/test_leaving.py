"""Callers who leave, and servers that end a request, at each point of it. Tried on the app itself: here the test is the
server, and says when a write returns."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.accounts.interfaces import LedgerRow
from app.config.settings import load_settings
from app.main import create_app
from app.store.sql import SqlStore
from tests.fakes import openai
from tests.fakes.http import Gate, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import _first_key

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[models.m]
routes = [{{ backend = "fake", model = "r" }}]
"""
SILENT = Reply(200, openai.SSE, [Gate()])

Write = Callable[[int], Awaitable[None]]
"""What the server does at its n-th write to the caller."""


class Site:
    """The app, its upstream, and a server as the test wants it."""

    def __init__(self, app: Any, upstream: Upstream, data_dir: Path, key: str) -> None:
        self._app = app
        self._headers = [(b"authorization", f"Bearer {key}".encode())]
        self._data_dir = data_dir
        self.upstream = upstream
        self.left = asyncio.Event()

    def ask(self, write: Write, *, stream: bool = True) -> asyncio.Task[None]:
        """Asks; the caller leaves when `left` is set."""
        body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        incoming = [{"type": "http.request", "body": json.dumps(body).encode()}]
        writes = 0

        async def receive() -> Any:
            if not incoming:
                await self.left.wait()
                return {"type": "http.disconnect"}
            return incoming.pop()

        async def send(_: Any) -> None:
            nonlocal writes
            writes += 1
            await write(writes)

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b""}
        return asyncio.create_task(self._app({**scope, "headers": self._headers}, receive, send))

    @property
    def database(self) -> Path:
        return self._data_dir / "tuwen.db"

    async def booked(self) -> LedgerRow:
        """The one row there is."""
        store = await SqlStore.open(self.database)
        try:
            [row] = await store.rows(since=0, limit=10)
        finally:
            await store.aclose()
        return row


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """The app; indirect parameters are settings of its own."""
    own = getattr(request, "param", {})
    async with Upstream() as upstream:
        models = tmp_path / "models.toml"
        models.write_text(MODELS.format(url=upstream.url))
        settings = load_settings(data_dir=tmp_path / "data", models_file=models, **{"heartbeat_s": 0.1, **own})
        key = await _first_key(settings.data_dir)
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            yield Site(app, upstream, settings.data_dir, key)


async def at_once(_: int) -> None:
    """A caller who reads all."""


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_before_the_first_word_ends_the_upstream_call(site: Site, stream: bool) -> None:
    site.upstream.answer(SILENT)
    request = site.ask(at_once, stream=stream)
    [asked] = await site.upstream.arrival()
    site.left.set()
    await request
    await asked.closed()
    assert (await site.booked()).outcome == "gone"


async def test_leaving_while_money_is_set_aside_costs_nothing(site: Site) -> None:
    """The first thing a request without pictures waits for is the commit of its hold."""
    with closing(sqlite3.connect(site.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        site.left.set()
        request = site.ask(at_once)
        await asyncio.wait([request], timeout=0.1)  # it ends once it is booked, which waits for the lock
        other.execute("ROLLBACK")
    await request
    row = await site.booked()
    assert (row.outcome, row.state, row.cost_micros, row.input_tokens) == ("gone", "released", 0, 0)
    assert not site.upstream.requests


@pytest.mark.parametrize("stuck_at", [1, 2, 3])
async def test_leaving_with_a_stuck_write_ends_the_upstream_call(site: Site, stuck_at: int) -> None:
    """Stuck at the headers, the comment that comes with them, or a later comment: the first word is still awaited."""
    stuck = asyncio.Event()

    async def write(number: int) -> None:
        if number == stuck_at:
            stuck.set()
            await asyncio.Event().wait()

    site.upstream.answer(SILENT)
    request = site.ask(write)
    await stuck.wait()
    [asked] = await site.upstream.arrival()
    site.left.set()
    await request
    await asked.closed()
    assert (await site.booked()).outcome == "gone"


async def test_request_ended_by_the_server_in_a_stuck_write_ends_the_upstream_call(site: Site) -> None:
    stuck = asyncio.Event()

    async def write(_: int) -> None:
        stuck.set()
        await asyncio.Event().wait()

    site.upstream.answer(SILENT)
    request = site.ask(write)
    await stuck.wait()
    [asked] = await site.upstream.arrival()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled()
    await asked.closed()
    assert (await site.booked()).outcome == "gone"


@pytest.mark.parametrize("site", [{"heartbeat_s": 30}], indirect=True)
async def test_leaving_between_chunks_ends_the_upstream_call(site: Site) -> None:
    async def write(number: int) -> None:
        if number == 2:
            site.left.set()

    site.upstream.answer(openai.stream("first", Gate(), "never"))
    await site.ask(write)
    await site.upstream.requests[0].closed()
    row = await site.booked()
    assert (row.outcome, row.error_code) == ("gone", None)


@pytest.mark.parametrize("site", [{"deadline_s": 0.3}], indirect=True)
async def test_caller_who_neither_reads_nor_leaves_is_left_after_the_deadline(site: Site) -> None:
    async def write(number: int) -> None:
        if number == 2:
            await asyncio.Event().wait()

    site.upstream.answer(openai.stream("first", Gate(), "never"))
    await site.ask(write)
    await site.upstream.requests[0].closed()
    row = await site.booked()
    assert (row.outcome, row.error_code) == ("gone", None)
