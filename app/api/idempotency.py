"""`Idempotency-Key`: who asks twice is answered once, and gets the same answer, or is told to wait for it.

The first request with a key of its own claims it, answers as if there were no such header, and what it says is kept on
its way out; the bytes that end the answer leave once it is kept. Only whole, good answers are kept. Whatever else comes
of it, the claim is given up, so that asking again asks anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, assert_never

import structlog
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from app.accounts.answers import Claim, ClaimDigests, KeptAnswer, KeptAnswers
from app.core.clock import Clock
from app.core.errors import IdempotencyConflict, InvalidRequest, RecordsUnavailable

HEADER: Final = b"idempotency-key"
RENEW_S: Final = 5.0
REPLAYED: Final = "x-tuwen-idempotent-replay"

_FORM = re.compile(rb"[\x20-\x7e]{1,255}")
_OFF_LOOP_BYTES = 256 * 1024
_KEPT_HEADERS = frozenset({b"content-type", b"cache-control", b"x-accel-buffering", b"x-tuwen-notice", b"x-tuwen-cost"})
"""What belongs to the answer. The rest belongs to one sending of it: its length, its id, how long it waited."""

_log = structlog.get_logger(__name__)


class Idempotency:
    """The claims of this process, and the answers all processes share. `keep` must run beside it.

    Args:
        max_bytes: of an answer that is kept. 0: none is, and twins of a request that was answered are told so.
        renew_s: how often claims are renewed and old answers dropped.
    """

    def __init__(
        self,
        answers: KeptAnswers,
        digests: ClaimDigests,
        clock: Clock,
        *,
        max_bytes: int,
        renew_s: float = RENEW_S,
    ) -> None:
        self._answers = answers
        self._digests = digests
        self._clock = clock
        self._max_bytes = max_bytes
        self._renew_s = renew_s
        self._running: set[Turn] = set()
        self._crowded = asyncio.Event()
        self._away = False
        self._keeping: set[asyncio.Task[None]] = set()

    async def turn(
        self, name: bytes, body: bytes, key_id: str, scope: Scope, *, ends_stream: Callable[[bytes], bool]
    ) -> Turn | Response:
        """What is to be done with a request: answer it as a turn, or by what was answered before.

        Args:
            name: its Idempotency-Key, not empty.
            key_id: of the caller.
            ends_stream: whether a piece of a stream is the end of a good answer.

        Raises:
            InvalidRequest: the header cannot be one, or stood for another request before.
            IdempotencyConflict: a twin is being answered, or was, and its answer is not to be had.
            RecordsUnavailable: nobody can say.
        """
        if _FORM.fullmatch(name) is None:
            raise _malformed()
        claim = await self._claim(key_id, name.decode("ascii"), scope["path"], body, scope["tuwen.request_id"])
        match await self._answers.claim(claim, now=self._clock.now()):
            case "claimed":
                return Turn(self, claim, self._max_bytes, ends_stream)
            case KeptAnswer() as answer:
                return Response(answer.body, headers={**dict(answer.headers), REPLAYED: "true"})
            case "running":
                raise _still_running()
            case "other_body":
                raise _reused()
            case "not_kept":
                raise _not_kept()
            case standing:  # pragma: no cover - the type checker proves it cannot be reached
                assert_never(standing)

    async def _claim(self, key_id: str, name: str, path: str, body: bytes, request_id: str) -> Claim:
        if len(body) > _OFF_LOOP_BYTES:
            return await asyncio.to_thread(self._digests.claim, key_id, name, path, body, request_id)
        return self._digests.claim(key_id, name, path, body, request_id)

    def begun(self, turn: Turn) -> None:
        """A turn began: its claim is renewed from now on."""
        self._running.add(turn)

    async def ended(self, turn: Turn, *, kept: bool) -> None:
        """It is over."""
        self._running.discard(turn)
        if kept:
            return
        with suppress(RecordsUnavailable):  # the claim ends with its lease
            await self._answers.give_up(turn.claim)

    async def keep_answer(self, claim: Claim, answer: KeptAnswer | None) -> None:
        """Keeps an answer, to the end even where the caller leaves meanwhile."""
        keeping = asyncio.create_task(self._store(claim, answer))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        await asyncio.shield(keeping)

    async def _store(self, claim: Claim, answer: KeptAnswer | None) -> None:
        """Keeps an answer. Where the records are away it is not kept, but it is good and paid for: it goes out."""
        try:
            crowded = await self._answers.keep(claim, answer, now=self._clock.now())
        except RecordsUnavailable as error:
            _log.warning("an answer could not be kept", request_id=claim.request_id, detail=error.detail)
        else:
            if crowded:
                self._crowded.set()

    async def keep(self) -> None:
        """Renews claims and drops what is old or too much, until cancelled."""
        while True:
            self._crowded.clear()
            try:
                await self.look_after()
            except RecordsUnavailable as error:
                if not self._away:  # said once an outage
                    _log.warning("claims of Idempotency-Keys cannot be renewed", detail=error.detail)
                self._away = True
            else:
                self._away = False
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renew_s):
                    await self._crowded.wait()

    async def look_after(self) -> None:
        """One round.

        Raises:
            RecordsUnavailable: the answers cannot be reached.
        """
        now = self._clock.now()
        await self._answers.renew([turn.claim for turn in self._running], now=now)
        await self._answers.sweep(now)


class Turn:
    """A request that answers for its twins."""

    def __init__(
        self, idempotency: Idempotency, claim: Claim, max_bytes: int, ends_stream: Callable[[bytes], bool]
    ) -> None:
        self.claim = claim
        self._idempotency = idempotency
        self._max_bytes = max_bytes
        self._ends_stream = ends_stream
        self._status = 0
        self._streams = False
        self._headers: tuple[tuple[str, str], ...] = ()
        self._pieces: list[bytes] = []
        self._size_bytes = 0
        self._kept = False

    async def run(self, answering: Coroutine[Any, Any, None]) -> None:
        """Answers. `answering` must send by what `tapped` gave."""
        self._idempotency.begun(self)
        try:
            await answering
        finally:
            await self._idempotency.ended(self, kept=self._kept)

    def tapped(self, send: Send) -> Send:
        """The same `send`, which keeps what passes; the end of a good answer passes once it is kept."""

        async def send_kept(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._begin(message)
            elif self._status == 200 and not self._kept and self._add(message):
                self._kept = True  # even if we end right here: it is kept all the same
                await self._idempotency.keep_answer(self.claim, self._answer())
            await send(message)

        return send_kept

    def _begin(self, message: Message) -> None:
        self._status = message["status"]
        headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        self._headers = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in headers if n in _KEPT_HEADERS)
        self._streams = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)

    def _add(self, message: Message) -> bool:
        """Notes a piece of the body; whether a good answer ends with it."""
        piece: bytes = message.get("body", b"")
        self._size_bytes += len(piece)
        if self._size_bytes <= self._max_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        return self._ends_stream(piece) if self._streams else not message.get("more_body", False)

    def _answer(self) -> KeptAnswer | None:
        """What was said; `None` if it is too large to be kept."""
        body, self._pieces = b"".join(self._pieces), []
        return KeptAnswer(self._headers, body) if self._size_bytes <= self._max_bytes else None


def _malformed() -> InvalidRequest:
    return InvalidRequest(
        "The Idempotency-Key header must be 1 to 255 printable ASCII characters.",
        code="invalid_idempotency_key",
        chinese="Idempotency-Key 请求头必须为 1 至 255 个可打印的 ASCII 字符。",
    )


def _reused() -> InvalidRequest:
    return InvalidRequest(
        "This Idempotency-Key was used for another request; give every new request a new one.",
        code="idempotency_key_reused",
        chinese="此 Idempotency-Key 已用于另一个请求；请为每个新请求使用新的值。",
    )


def _still_running() -> IdempotencyConflict:
    return IdempotencyConflict(
        "A request with this Idempotency-Key is still being answered. Ask again shortly.",
        chinese="使用此 Idempotency-Key 的请求仍在处理中，请稍后重试。",
    )


def _not_kept() -> IdempotencyConflict:
    return IdempotencyConflict(
        "A request with this Idempotency-Key was answered, but its answer is not kept any more: it was too large, or "
        "others needed the room. Give a new Idempotency-Key to ask anew.",
        code="idempotency_answer_not_kept",
        retry_after_s=None,
        chinese="使用此 Idempotency-Key 的请求已得到回答，但该回答过大或因空间不足未再保留；"
        "如需重新提问，请使用新的值。",
    )
