"""Tokens, over a socket: how often a vendor is asked for one, and what becomes of an answer that refuses it."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest

from app.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from app.core.types import AccessToken, HttpCall
from app.transports.auth import TokenKeeper
from app.transports.http import HttpTransport
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Received, Reply
from tests.fakes.upstream import Upstream

REFUSAL = openai.reply({"error_code": 110})
GOOD = openai.reply({"answer": "好" * 20_000})


@dataclass(frozen=True)
class Flow:
    """An account with a vendor who hands out tokens at `/token`."""

    url: str
    account: str = "a"

    def ask(self) -> HttpCall:
        return HttpCall("POST", f"{self.url}/token?client_secret=hush", {}, b"{}", "json")

    def read(self, status: int, body: bytes) -> AccessToken:
        try:
            answer = json.loads(body)
        except ValueError:
            raise BackendProtocolError("no token", detail=f"status {status}", retryable=True) from None
        if "token" not in answer:
            raise BackendMisconfigured("bad key")
        return AccessToken(answer["token"], answer["expires_in"])

    def with_token(self, call: HttpCall, token: str) -> HttpCall:
        return replace(call, url=f"{call.url}?access_token={token}", token=None)

    def refuses(self, body: bytes) -> bool:
        return bool(json.loads(body).get("error_code") in {110, 111})


class Vendor:
    """Hands out tokens `t1`, `t2`, … and answers calls by `replies`, in order; the last one for good."""

    def __init__(self, up: Upstream, *replies: Reply, expires_in_s: float = 3600) -> None:
        self.replies = list(replies) or [GOOD]
        self.token_replies: list[Reply] = []
        self.expires_in_s = expires_in_s
        self.up = up
        self.given = 0
        up.otherwise(self._answer)

    def _answer(self, request: Received) -> Reply:
        if request.path != "/token":
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.given += 1
        scripted = self.token_replies.pop(0) if self.token_replies else None
        return scripted or openai.reply({"token": f"t{self.given}", "expires_in": self.expires_in_s})

    def call(self, account: str = "a") -> HttpCall:
        return HttpCall("POST", f"{self.up.url}/chat", {}, b"{}", token=Flow(self.up.url, account))

    @property
    def tokens_used(self) -> list[str]:
        return [request.query.removeprefix("access_token=") for request in self.up.requests if request.path == "/chat"]


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.aclose()


async def ask(transport: HttpTransport, call: HttpCall) -> bytes:
    """The data of all frames, joined."""
    async with (
        transport.open(call, backend="b", connect_s=5.0) as reply,
        aclosing(reply.frames()) as batches,
    ):
        return b"".join([frame.data async for batch in batches for frame in batch])


async def test_calls_share_a_token_while_it_is_good(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up)
        for _ in range(3):
            assert await ask(transport, vendor.call()) == GOOD.wire
        assert vendor.tokens_used == ["t1", "t1", "t1"]
        assert vendor.given == 1


async def test_accounts_do_not_share_tokens(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up)
        await ask(transport, vendor.call("a"))
        await ask(transport, vendor.call("b"))
        assert vendor.tokens_used == ["t1", "t2"]


async def test_however_many_wait_one_token_is_asked_for(transport: HttpTransport) -> None:
    gate = Gate()
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(200, {}, [b'{"token": "t1",', gate, b'"expires_in": 3600}'])]
        asked = [asyncio.create_task(ask(transport, vendor.call())) for _ in range(20)]
        await gate.reached()
        gate.open()
        await asyncio.gather(*asked)
        assert vendor.given == 1
        assert vendor.tokens_used == ["t1"] * 20


async def test_a_caller_who_leaves_does_not_take_the_token_from_the_others(transport: HttpTransport) -> None:
    gate = Gate()
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(200, {}, [b'{"token": "t1",', gate, b'"expires_in": 3600}'])]
        first = asyncio.create_task(ask(transport, vendor.call()))
        await gate.reached()
        second = asyncio.create_task(ask(transport, vendor.call()))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.open()
        assert await second == GOOD.wire
        assert vendor.given == 1


async def test_a_token_is_renewed_a_minute_before_it_expires() -> None:
    now_s = 1000.0
    http = HttpTransport()
    keeper = TokenKeeper(http.open, clock=lambda: now_s)  # type: ignore[arg-type]  # what it opens can be peeked at
    async with Upstream() as up:
        vendor = Vendor(up, expires_in_s=600)
        for now_s in (1000.0, 1539.0, 1541.0, 1542.0):  # noqa: B007 - the clock reads it
            await _opened(keeper, vendor.call())
        assert vendor.tokens_used == ["t1", "t1", "t2", "t2"]
    await http.aclose()


async def test_a_token_of_seconds_is_used_for_half_its_life() -> None:
    now_s = 0.0
    http = HttpTransport()
    keeper = TokenKeeper(http.open, clock=lambda: now_s)  # type: ignore[arg-type]  # what it opens can be peeked at
    async with Upstream() as up:
        vendor = Vendor(up, expires_in_s=30)
        for now_s in (0.0, 14.0, 16.0):  # noqa: B007 - the clock reads it
            await _opened(keeper, vendor.call())
        assert vendor.tokens_used == ["t1", "t1", "t2"]
    await http.aclose()


async def test_a_refused_token_is_replaced_once(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up, REFUSAL, GOOD)
        assert await ask(transport, vendor.call()) == GOOD.wire
        assert vendor.tokens_used == ["t1", "t2"]
        await ask(transport, vendor.call())
        assert vendor.tokens_used == ["t1", "t2", "t2"]


async def test_a_token_that_is_refused_again_is_not_replaced_again(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up, REFUSAL)
        assert await ask(transport, vendor.call()) == REFUSAL.wire
        assert vendor.given == 2


async def test_calls_refused_together_bring_one_new_token(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up)
        await ask(transport, vendor.call())
        gate = Gate()
        vendor.replies = [Reply(200, {}, [gate, REFUSAL.wire])] * 5 + [GOOD]
        asked = [asyncio.create_task(ask(transport, vendor.call())) for _ in range(5)]
        await up.arrival(2 + 5)
        gate.open()
        assert await asyncio.gather(*asked) == [GOOD.wire] * 5
        assert vendor.given == 2


async def test_a_refusal_with_an_error_status_is_seen_too(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up, openai.reply({"error_code": 111}, 401), GOOD)
        assert await ask(transport, vendor.call()) == GOOD.wire


async def test_other_errors_are_passed_on(transport: HttpTransport) -> None:
    busy = openai.reply({"error_code": 18}, 429)
    async with Upstream() as up:
        vendor = Vendor(up, busy)
        async with transport.open(vendor.call(), backend="b", connect_s=5.0) as reply:
            assert reply.status == 429
            assert await reply.body() == busy.wire
        assert vendor.given == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, openai.SSE, [b'data: {"error_code": 110}\n\n', Gate(), b""]),
        Reply(200, {}, [b"data: mislabelled\n\n", Gate(), b""]),
        Reply(200, {}, [b'{"long": "', b"x" * 20_000, Gate(), b'"}']),
    ],
    ids=["a stream", "a stream that calls itself JSON", "a long answer"],
)
async def test_what_is_no_refusal_is_not_held_up(transport: HttpTransport, reply: Reply) -> None:
    gate = next(step for step in reply.steps if isinstance(step, Gate))
    async with Upstream() as up:
        vendor = Vendor(up, reply)
        async with transport.open(vendor.call(), backend="b", connect_s=5.0) as opened:
            gate.open()  # had the answer been waited for, the upstream would stand at its gate for ever
            frames = [frame.data async for batch in opened.frames() for frame in batch]
        assert b"".join(frames) in {reply.wire, reply.wire.removeprefix(b"data: ").rstrip()}
        assert vendor.given == 1


@pytest.mark.parametrize("cut", [Cut(), Cut(reset=True)], ids=["closed", "reset"])
async def test_an_answer_that_breaks_while_it_is_looked_at_is_an_error_when_it_is_read(
    transport: HttpTransport, cut: Cut
) -> None:
    async with Upstream() as up:
        vendor = Vendor(up, Reply(200, {}, [b'{"answer"', cut]))
        with pytest.raises(BackendError) as caught:
            await ask(transport, vendor.call())
        assert caught.value.retryable


async def test_an_empty_answer_is_still_empty(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up, Reply(500, {}, []))
        call = replace(vendor.call(), token=_Careless(up.url))
        async with transport.open(call, backend="b", connect_s=5.0) as reply:
            assert await reply.body() == b""


class _Careless(Flow):
    def refuses(self, body: bytes) -> bool:
        return False


async def test_an_error_of_the_token_call_is_the_calls_error_and_the_next_call_asks_anew(
    transport: HttpTransport,
) -> None:
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [openai.reply({"error": "invalid_client"}, 401)]
        with pytest.raises(BackendMisconfigured):
            await ask(transport, vendor.call())
        assert vendor.tokens_used == []
        assert await ask(transport, vendor.call()) == GOOD.wire


async def test_those_who_wait_for_a_token_that_is_refused_fail_together(transport: HttpTransport) -> None:
    gate = Gate()
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(401, {}, [b'{"error":', gate, b'"invalid_client"}'])]
        asked = [asyncio.create_task(ask(transport, vendor.call())) for _ in range(5)]
        await gate.reached()
        gate.open()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BackendMisconfigured] * 5
        assert vendor.given == 1


async def test_a_token_call_that_fails_after_everybody_left_says_nothing() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    http = HttpTransport()
    keeper = TokenKeeper(http.open)  # type: ignore[arg-type]  # what it opens can be peeked at
    gate = Gate()
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(401, {}, [b'{"error":', gate, b'"invalid_client"}'])]
        only = asyncio.create_task(_opened(keeper, vendor.call()))
        await gate.reached()
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        (asking,) = (task for task in asyncio.all_tasks() if task.get_name() == "token")
        gate.open()
        await asyncio.wait({asking})
        del asking
        gc.collect()
        await _opened(keeper, vendor.call())
        assert vendor.given == 2
    await http.aclose()
    assert complaints == []


async def _opened(keeper: TokenKeeper, call: HttpCall) -> None:
    async with keeper.open(call, backend="b", connect_s=5.0):
        pass


async def test_a_token_call_that_hangs_is_given_up() -> None:
    http = HttpTransport()
    keeper = TokenKeeper(http.open, total_s=0.05)  # type: ignore[arg-type]  # what it opens can be peeked at
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(200, {}, [b"{", Gate()])]
        with pytest.raises(BackendTimeout) as caught:
            await _opened(keeper, vendor.call())
        assert caught.value.backend == "b"
        assert caught.value.said_in("zh") != str(caught.value)
    await http.aclose()


async def test_a_token_answer_without_end_is_read_to_a_bound(transport: HttpTransport) -> None:
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(200, {}, [b"x" * 200_000, Gate()])]
        with pytest.raises(BackendProtocolError):
            await ask(transport, vendor.call())


async def test_closing_gives_up_the_token_that_is_asked_for() -> None:
    transport = HttpTransport()
    gate = Gate()
    async with Upstream() as up:
        vendor = Vendor(up)
        vendor.token_replies = [Reply(200, {}, [b"{", gate])]
        asked = asyncio.create_task(ask(transport, vendor.call()))
        await gate.reached()
        await transport.aclose()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_an_unreachable_vendor_is_told_without_secrets(transport: HttpTransport) -> None:
    async with Upstream() as up:
        call = Vendor(up).call()
    with pytest.raises(BackendUnavailable) as caught:
        await ask(transport, call)
    assert "hush" not in f"{caught.value} {caught.value.detail} {caught.value!r}"


@pytest.mark.parametrize("where", ["/token", "/chat"])
async def test_addresses_with_secrets_do_not_stand_in_errors(transport: HttpTransport, where: str) -> None:
    """A library repeats the whole address of an answer that is no HTTP."""
    nonsense = Reply(body="raw", steps=[b"HTTP/1.1 200 OK\r\n\x00bad header\r\n\r\n"])
    async with Upstream() as up:
        vendor = Vendor(up, nonsense)
        if where == "/token":
            vendor.token_replies = [nonsense]
        with pytest.raises(BackendProtocolError) as caught:
            await ask(transport, vendor.call())
    assert f"{where}?…" in caught.value.detail
    assert caught.value.__cause__ is None
    assert "t1" not in caught.value.detail
    assert "hush" not in caught.value.detail


async def test_no_token_stands_in_a_repr(transport: HttpTransport) -> None:
    flow = Flow("http://vendor.test")
    call = HttpCall("POST", "http://vendor.test/chat", {}, b"{}", token=flow)
    assert "tok-1" not in repr(flow.with_token(call, "tok-1"))
    assert "tok-1" not in repr(AccessToken("tok-1", 1.0))


async def test_a_call_that_needs_no_token_is_not_the_keepers() -> None:
    http = HttpTransport()
    keeper = TokenKeeper(http.open)  # type: ignore[arg-type]  # never opened
    with pytest.raises(TypeError):
        await _opened(keeper, HttpCall("GET", "http://vendor.test", {}, b""))
