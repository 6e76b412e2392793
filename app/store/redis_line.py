"""The line to Redis: one connection, whose users share each other's round trips; cut as soon as Redis is slow.

What is asked while an answer is under way goes out together, in order, when that is there. So what a process asks is
seen in the order it was asked, and the cost per question falls as load rises. No question waits longer than
`patience_s`: then the line is down, all that wait are told, and questions are refused at once until it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.core.secret import Censor
from app.store.errors import StoreUnusable

PATIENCE_S = 0.25
_SENT_AT_ONCE = 200

Script: TypeAlias = Literal[
    "windows_enter", "windows_leave", "renew", "node", "turns_enter", "turns_poll", "turns_leave"
]
_BEFORE: Mapping[Script, Sequence[str]] = {
    "windows_enter": ["window"],
    "windows_leave": ["window"],
    "renew": ["window"],
    "node": ["window"],
    "turns_enter": ["window", "turnstile"],
    "turns_poll": ["window", "turnstile"],
    "turns_leave": ["window", "turnstile"],
}
"""What each script is written on top of."""

_log = structlog.get_logger(__name__)


class LineDown(Exception):
    """Redis does not answer; whether it heard the question is not known."""


def client_of(url: str) -> Redis:
    """A client, not yet connected.

    Args:
        url: as `redis://:password@host:6379/0`.

    Raises:
        StoreUnusable: an option behind its `?` is unknown or has a wrong value. Neither is told, for either may be a
            password that was not quoted.
    """
    try:
        redis = Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))
        redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # options are looked at no earlier
    except (TypeError, ValueError, RedisError):
        words = "what stands behind its ? is not understood; write it as redis://:PASSWORD@HOST:6379/0"
        raise StoreUnusable(f"TUWEN_REDIS_URL: {words}") from None
    return redis


@dataclass(frozen=True, slots=True)
class _Question:
    script: Script
    words: Sequence[str | int]
    answer: asyncio.Future[Any] | None


class RedisLine:
    """One process's line to a Redis server. It is down until `connect` succeeded.

    Args:
        url: as `redis://:password@host:6379/0`.
        patience_s: how long an answer may take.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        self._url = url
        self._patience_s = patience_s
        self._redis: Redis | None = None
        self._digests: dict[Script, str] = {}
        self._questions: list[_Question] = []
        self._sender: asyncio.Task[None] | None = None
        self._complained = False

    @property
    def is_up(self) -> bool:
        """Whether questions are asked, not refused."""
        return self._redis is not None

    async def connect(self) -> bool:
        """Tries to bring the line up; whether it is.

        Raises:
            StoreUnusable: the address has wrong options.
        """
        if self._redis is not None:
            return True
        redis = client_of(self._url)
        try:
            async with asyncio.timeout(4 * self._patience_s):
                for script in _BEFORE:
                    self._digests[script] = await redis.script_load(_source(script))
        except (TimeoutError, RedisError, OSError) as error:
            await _closed(redis)
            self._complain(error)
            return False
        self._redis = redis
        if self._complained:
            _log.info("redis is back; limits are shared again")
        self._complained = False
        return True

    async def ask(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Runs a script; what it answers.

        Raises:
            LineDown: no answer came.
        """
        if self._redis is None:
            raise LineDown
        answer = asyncio.get_running_loop().create_future()
        self._put(_Question(script, [len(keys), *keys, *args], answer))
        return await answer

    def tell(self, script: Script, keys: Sequence[str], args: Sequence[str | int]) -> None:
        """Runs a script whose answer nobody waits for; if the line is up."""
        if self._redis is not None:
            self._put(_Question(script, [len(keys), *keys, *args], None))

    async def aclose(self) -> None:
        """Sends what was told before, and closes the line."""
        if self._sender is not None:
            await asyncio.wait([self._sender])
        if self._redis is not None:
            redis, self._redis = self._redis, None
            await _closed(redis)

    def _put(self, question: _Question) -> None:
        self._questions.append(question)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._questions and self._redis is not None:
                sent, self._questions = self._questions[:_SENT_AT_ONCE], self._questions[_SENT_AT_ONCE:]
                try:
                    async with asyncio.timeout(self._patience_s):
                        answers = await self._asked(self._redis, sent)
                except (TimeoutError, RedisError, OSError) as error:
                    self._refuse(sent)
                    await self._cut(error)
                else:
                    for question, answer in zip(sent, answers, strict=True):
                        if question.answer is not None and not question.answer.done():
                            question.answer.set_result(answer)
        finally:
            self._sender = None

    async def _asked(self, redis: Redis, questions: Sequence[_Question]) -> list[Any]:
        pipeline = redis.pipeline(transaction=False)
        for question in questions:
            pipeline.execute_command("EVALSHA", self._digests[question.script], *question.words)
        return await pipeline.execute()

    async def _cut(self, error: Exception) -> None:
        redis, self._redis = self._redis, None
        self._refuse(self._questions)
        self._questions = []
        self._complain(error)
        if redis is not None:
            await _closed(redis)

    def _complain(self, error: Exception) -> None:
        if not self._complained:  # said once an outage
            detail = Censor(_credentials(self._url))(str(error)) or "no answer in time"
            _log.warning("redis is away; this process keeps its share of the limits by itself", detail=detail)
        self._complained = True

    @staticmethod
    def _refuse(questions: Sequence[_Question]) -> None:
        for question in questions:
            if question.answer is not None and not question.answer.done():
                question.answer.set_exception(LineDown())


def _credentials(url: str) -> list[str]:
    parts = urlsplit(url)
    return [unquote(word) for word in (parts.username, parts.password) if word]


async def _closed(redis: Redis) -> None:
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await redis.aclose()


@cache
def _source(script: Script) -> str:
    folder = files("app.store").joinpath("lua")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in (*_BEFORE[script], script))
