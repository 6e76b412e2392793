"""`Idempotency-Key` over time: what is had for a day, what a dead gateway leaves, and records that are away."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.accounts.answers import KEPT_S, LEASE_S, ClaimDigests
from app.accounts.keys import KeyMint
from app.config.settings import load_settings
from app.core.clock import Clock
from app.main import create_app
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.api.idempotent import MODELS, PATH, body_of, waiting
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream


class Hand:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def clock(self) -> Clock:
        return Clock(now=lambda: self.at)


@pytest.fixture
def hand() -> Hand:
    return Hand()


class Site:
    """The app itself, at a time of the test's own."""

    def __init__(self, client: httpx2.AsyncClient, upstream: Upstream, data_dir: Path, keys: list[str]) -> None:
        self._client = client
        self.upstream = upstream
        self.data_dir = data_dir
        self.keys = keys

    async def ask(self, *, key: int = 0, **fields: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.keys[key]}", "idempotency-key": "order 7"}
        return await self._client.post(PATH, content=body_of(**fields), headers=headers)


async def two_keys(data_dir: Path) -> list[str]:
    data_dir.mkdir()
    mint = KeyMint(server_secret(data_dir, None), clock=time.time, random_bytes=os.urandom)
    minted = [mint.mint(name, admin=name == "a") for name in ("a", "b")]
    async with records(data_dir) as store:
        for each in minted:
            await store.add_key(each.record)
    return [each.key for each in minted]


@asynccontextmanager
async def records(data_dir: Path) -> AsyncIterator[SqlStore]:
    """The records, opened by another process than the gateway's."""
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def running(folder: Path, hand: Hand, **settings: Any) -> AsyncIterator[Site]:
    async with Upstream() as upstream:
        models = folder / "models.toml"
        models.write_text(MODELS.format(url=upstream.url))
        loaded = load_settings(data_dir=folder / "data", models_file=models, **settings)
        keys = await two_keys(loaded.data_dir)
        app = create_app(loaded, hand.clock())
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://tuwen") as client,
        ):
            yield Site(client, upstream, loaded.data_dir, keys)


@pytest.fixture
async def site(tmp_path: Path, hand: Hand) -> AsyncIterator[Site]:
    async with running(tmp_path, hand) as site:
        yield site


async def test_answer_is_had_for_a_day(site: Site, hand: Hand) -> None:
    site.upstream.answer(openai.answer("today"), openai.answer("tomorrow"))
    first = await site.ask()
    hand.at += KEPT_S - 1
    assert (await site.ask()).content == first.content
    hand.at += 1
    assert "tomorrow" in (await site.ask()).text


async def test_another_caller_with_the_same_header_is_answered_for_himself(site: Site) -> None:
    site.upstream.answer(openai.answer("first"), openai.answer("second"))
    answers = [await site.ask(key=key) for key in (0, 1, 0, 1)]
    assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == ["first", "second"] * 2


async def test_claim_of_a_gateway_that_died_is_free_once_its_lease_ran_out(site: Site, hand: Hand) -> None:
    digests = ClaimDigests(server_secret(site.data_dir, None))
    async with records(site.data_dir) as store:
        [key_id] = [key.id for key in await store.keys() if key.admin]
        claim = digests.claim(key_id, "order 7", PATH, body_of(), "dead")
        assert await store.answers(b"any", max_bytes=1).claim(claim, now=hand.at) == "claimed"
    site.upstream.answer(openai.answer("alive"))
    assert (await site.ask()).status_code == 409
    hand.at += LEASE_S
    assert "alive" in (await site.ask()).text


async def test_where_no_answer_is_to_be_kept_nobody_pays_twice_all_the_same(tmp_path: Path, hand: Hand) -> None:
    async with running(tmp_path, hand, answer_max_bytes=0) as site:
        site.upstream.answer(openai.answer("once"))
        assert (await site.ask()).status_code == 200
        assert (await site.ask()).json()["error"]["code"] == "idempotency_answer_not_kept"
        assert len(site.upstream.requests) == 1


async def drop_answers(data_dir: Path) -> None:
    """From now on nothing can be claimed or kept; the ledger is there as before."""
    async with records(data_dir) as store:
        await store._database.writer.apply(lambda connection: connection.exec_driver_sql("DROP TABLE answers"))


async def test_where_nobody_can_say_whether_it_is_a_twin_the_backend_is_not_asked(site: Site) -> None:
    # the writer tries for a second and a half
    await drop_answers(site.data_dir)
    response = await site.ask()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "records_unavailable")
    assert site.upstream.requests == []


async def test_good_answer_goes_out_though_it_cannot_be_kept(site: Site) -> None:
    # the writer tries for a second and a half
    gate = Gate()
    site.upstream.answer(waiting(gate, False, "paid for"))
    request = asyncio.ensure_future(site.ask())
    await site.upstream.arrival()
    await drop_answers(site.data_dir)
    gate.open()
    response = await request
    assert response.status_code == 200
    assert "paid for" in response.text
