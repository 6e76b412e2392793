"""The gateway's own part in `Idempotency-Key`: what leaves when, and the rounds in which claims are looked after."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from app.accounts.answers import Claim, ClaimDigests, KeptAnswer, KeptAnswers, Standing
from app.api.idempotency import Idempotency, Turn
from app.core.clock import Clock
from app.core.errors import RecordsUnavailable
from tests.api.idempotent import PATH


class Shelf(KeptAnswers):
    """Answers in memory, as far as the gateway's own rounds are concerned: it notes them, and fails when told."""

    def __init__(self) -> None:
        self.renewed: list[list[Claim]] = []
        self.given_up: list[Claim] = []
        self.sweeps = asyncio.Semaphore(0)
        self.crowded = False
        self.failures = 0
        self.keeping = asyncio.Event()
        self.may_keep = asyncio.Event()
        self.may_keep.set()

    @override
    async def claim(self, claim: Claim, *, now: float) -> Standing:
        return "claimed"

    @override
    async def keep(self, claim: Claim, answer: KeptAnswer | None, *, now: float) -> bool:
        self.keeping.set()
        await self.may_keep.wait()
        return self.crowded

    @override
    async def give_up(self, claim: Claim) -> None:
        self.given_up.append(claim)
        if self.failures:
            raise RecordsUnavailable

    @override
    async def renew(self, claims: Collection[Claim], *, now: float) -> None:
        self.renewed.append(list(claims))

    @override
    async def sweep(self, now: float) -> int:
        self.sweeps.release()
        if self.failures:
            self.failures -= 1
            raise RecordsUnavailable
        return 0


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def idempotency_on(shelf: Shelf, *, renew_s: float = 3600) -> Idempotency:
    return Idempotency(shelf, ClaimDigests(b"secret"), Clock(), max_bytes=100, renew_s=renew_s)


async def a_turn(idempotency: Idempotency) -> Turn:
    scope = {"path": PATH, "tuwen.request_id": "r1"}
    turn = await idempotency.turn(b"order 7", b"{}", "key_a", scope, ends_stream=lambda piece: piece == b"end")
    assert isinstance(turn, Turn)
    return turn


@pytest.mark.parametrize(
    ("media_type", "pieces"),
    [("application/json", [(b"whole", False)]), ("text/event-stream", [(b"word", True), (b"end", True), (b"", False)])],
    ids=["whole", "streamed"],
)
async def test_end_of_an_answer_leaves_once_it_is_kept(
    shelf: Shelf, media_type: str, pieces: list[tuple[bytes, bool]]
) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body"))

    turn = await a_turn(idempotency_on(shelf))
    tapped = turn.tapped(send)

    async def answering() -> None:
        headers = [(b"Content-Type", media_type.encode())]
        await tapped({"type": "http.response.start", "status": 200, "headers": headers})
        for body, more_body in pieces:
            await tapped({"type": "http.response.body", "body": body, "more_body": more_body})

    shelf.may_keep.clear()
    request = asyncio.create_task(turn.run(answering()))
    await shelf.keeping.wait()
    ends = [body for body, _ in pieces].index(b"whole" if media_type == "application/json" else b"end")
    assert sent == [None, *(body for body, _ in pieces[:ends])]
    shelf.may_keep.set()
    await request
    assert sent == [None, *(body for body, _ in pieces)]
    assert shelf.given_up == []


async def test_answer_that_says_what_went_wrong_is_not_kept(shelf: Shelf) -> None:
    async def send(_: Any) -> None:
        return None

    turn = await a_turn(idempotency_on(shelf))
    tapped = turn.tapped(send)

    async def answering() -> None:
        await tapped({"type": "http.response.start", "status": 400, "headers": []})
        await tapped({"type": "http.response.body", "body": b"no"})

    await turn.run(answering())
    assert not shelf.keeping.is_set()
    assert shelf.given_up == [turn.claim]


async def test_claims_are_renewed_as_long_as_their_requests_run(shelf: Shelf) -> None:
    idempotency, done = idempotency_on(shelf), asyncio.Event()
    turn = await a_turn(idempotency)

    async def answering() -> None:
        await idempotency.look_after()
        done.set()

    await turn.run(answering())
    await idempotency.look_after()
    assert done.is_set()
    assert shelf.renewed == [[turn.claim], []]


async def test_request_whose_claim_cannot_be_given_up_ends_as_it_would(shelf: Shelf) -> None:
    turn = await a_turn(idempotency_on(shelf))
    shelf.failures = 1

    async def answering() -> None:
        raise ValueError("its own end")

    with pytest.raises(ValueError, match="its own end"):
        await turn.run(answering())
    assert shelf.given_up == [turn.claim]


async def test_sweep_comes_early_where_much_was_added(shelf: Shelf) -> None:
    idempotency = idempotency_on(shelf)
    rounds = asyncio.create_task(idempotency.keep())
    await shelf.sweeps.acquire()
    turn = await a_turn(idempotency)
    await idempotency.keep_answer(turn.claim, None)
    await asyncio.sleep(0)  # a turn of the loop, in which nothing is to happen
    assert shelf.sweeps.locked()
    shelf.crowded = True
    await idempotency.keep_answer(turn.claim, None)
    await asyncio.wait_for(shelf.sweeps.acquire(), 5)
    rounds.cancel()


async def test_outage_is_said_once_and_outlived(shelf: Shelf) -> None:
    shelf.failures = 3
    with capture_logs() as logs:
        rounds = asyncio.create_task(idempotency_on(shelf, renew_s=0.001).keep())
        for _ in range(5):
            await asyncio.wait_for(shelf.sweeps.acquire(), 5)
        rounds.cancel()
    assert [log["event"] for log in logs] == ["claims of Idempotency-Keys cannot be renewed"]
