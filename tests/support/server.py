"""The app served by uvicorn from a thread of the test process: real sockets, and coverage sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from app.accounts.balances import Balance
from app.accounts.interfaces import LedgerRow
from app.accounts.key_terms import read_terms
from app.accounts.keys import KeyMint, first_key
from app.api.h1_protocol import Http1Protocol
from app.config.settings import Settings, load_settings
from app.main import create_app
from app.store.secret import server_secret
from app.store.sql import SqlStore

_START_S = 20
_BOOKED_S = 5


@dataclass(frozen=True)
class Served:
    """A gateway that serves, and its admin key."""

    port: int
    key: str
    settings: Settings
    client: httpx2.Client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chat(self, model: str = "m", **fields: Any) -> httpx2.Response:
        """One chat request; `messages` defaults to a short question."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=self.headers)

    def post(self, content: bytes, path: str = "/v1/chat/completions", **headers: str) -> httpx2.Response:
        """Raw bytes to a path."""
        given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return self.client.post(path, content=content, headers=given)

    def new_key(self, name: str = "somebody", **terms: Any) -> tuple[str, str]:
        """A key under terms as an operator writes them, as `budget="0.01"`; the key and its id."""
        return asyncio.run(_mint(self.settings.data_dir, name, terms))

    def as_key(self, key: str) -> Served:
        """The same gateway, asked with another key."""
        return replace(self, key=key)

    @property
    def headers(self) -> dict[str, str]:
        """What a caller proves itself with."""
        return {"authorization": f"Bearer {self.key}"}

    def balance(self, key_id: str) -> Balance:
        """Where a key stands."""
        return asyncio.run(_balance(self.settings.data_dir, key_id))

    def booked(self, response: httpx2.Response) -> LedgerRow:
        """The ledger row of an answer."""
        return self.row(response.headers["x-request-id"])

    def row(self, request_id: str) -> LedgerRow:
        """The ledger row of a request, waiting for it: a caller who left does not see it being booked."""
        deadline = time.monotonic() + _BOOKED_S
        while time.monotonic() < deadline:
            for row in asyncio.run(_rows(self.settings.data_dir)):
                if row.request_id == request_id and row.outcome != "running":
                    return row
        raise AssertionError(f"request {request_id} was not booked")

    def rows(self) -> list[LedgerRow]:
        """All ledger rows, newest first."""
        return asyncio.run(_rows(self.settings.data_dir))


async def _rows(data_dir: Path) -> list[LedgerRow]:
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        return list(await store.rows(since=0, limit=1000))
    finally:
        await store.aclose()


async def _balance(data_dir: Path, key_id: str) -> Balance:
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        balance = await store.balance(key_id)
    finally:
        await store.aclose()
    assert balance is not None
    return balance


async def _mint(data_dir: Path, name: str, written: dict[str, Any]) -> tuple[str, str]:
    mint = KeyMint(server_secret(data_dir, None), clock=time.time, random_bytes=os.urandom)
    terms = read_terms(written, now=time.time())
    minted = mint.mint(name, admin=False, terms=terms)
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        await store.add_key(minted.record, terms.budget)
    finally:
        await store.aclose()
    return minted.key, minted.record.id


async def _first_key(data_dir: Path) -> str:
    data_dir.mkdir(exist_ok=True)
    mint = KeyMint(server_secret(data_dir, None), clock=time.time, random_bytes=os.urandom)
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        key = await first_key(store, mint)
    finally:
        await store.aclose()
    assert key is not None
    return key


@contextmanager
def serving(folder: Path, models: str, **settings: Any) -> Iterator[Served]:
    """Serves the app on a free port of 127.0.0.1.

    Args:
        models: the operator's models.toml, as text.
        settings: fields of `Settings`.
    """
    models_file = folder / "models.toml"
    models_file.write_text(models)
    loaded = load_settings(data_dir=folder / "data", models_file=models_file, **settings)
    key = asyncio.run(_first_key(loaded.data_dir))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port: int = listener.getsockname()[1]
    config = uvicorn.Config(
        create_app(loaded), http=Http1Protocol, log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="gateway", daemon=True)
    thread.start()
    _wait_until_started(server, thread)
    client = httpx2.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}, timeout=20, trust_env=False
    )
    try:
        yield Served(port, key, loaded, client)
    finally:
        client.close()
        server.should_exit = True
        thread.join(_START_S)
        listener.close()
        assert not thread.is_alive(), "the gateway did not stop"


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_S
    while not server.started:
        assert thread.is_alive(), "the gateway did not start"
        assert time.monotonic() < deadline, "the gateway did not start in time"
        time.sleep(0.01)


def events_of(body: str) -> list[str]:
    """The data of every event of a stream, in order."""
    return [block.removeprefix("data: ") for block in body.split("\n\n") if block.startswith("data: ")]
