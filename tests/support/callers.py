"""Many callers at once, from a thread of their own: what they asked, and what they got."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

_TIMEOUT_S = 60
_AFTER_REFUSED_CONNECTION_S = 0.25
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Question:
    """What one caller asks.

    Args:
        url: a gateway's base URL.
        text: of the only message.
        fields: more of the body.
        headers: beside the key.
    """

    url: str
    key: str = field(repr=False)
    model: str
    text: str = "What is this?"
    stream: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": self.text}]
        return {"model": self.model, "messages": messages, "stream": self.stream, **self.fields}


@dataclass(frozen=True, slots=True)
class Got:
    """What became of it.

    Args:
        status: 0: there was no answer at all.
        whole: the caller saw the end of a good answer.
        asked_at, ended_at: Unix time in seconds.
    """

    question: Question
    status: int
    whole: bool
    asked_at: float
    ended_at: float
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def request_id(self) -> str | None:
        return self.headers.get("x-request-id")

    @property
    def took_s(self) -> float:
        return self.ended_at - self.asked_at

    @property
    def error_code(self) -> str | None:
        """The code of an OpenAI error."""
        try:
            error = json.loads(self.body)["error"]
        except (ValueError, KeyError, TypeError):
            return None
        return str(error.get("code"))


async def ask(session: aiohttp.ClientSession, question: Question) -> Got:
    """Asks, and reads all there is."""
    asked_at = time.time()
    status, headers, pieces, whole = 0, dict[str, str](), list[bytes](), False
    sent = {"authorization": f"Bearer {question.key}", **question.headers}
    try:
        async with session.post(f"{question.url}/chat/completions", json=question.body, headers=sent) as answer:
            status, headers = answer.status, {name.lower(): text for name, text in answer.headers.items()}
            async for piece in answer.content.iter_any():
                pieces.append(piece)
            whole = status == 200 and (not question.stream or b"".join(pieces).endswith(_DONE))
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        pass  # the gateway was killed: what came says how far it got
    return Got(question, status, whole, asked_at, time.time(), headers, b"".join(pieces))


def ask_all(questions: Sequence[Question], *, at_once: int | None = None) -> list[Got]:
    """Asks them all; what became of each, in order.

    Args:
        at_once: how many callers there are; `None`: one a question.
    """

    async def go() -> list[Got]:
        places = asyncio.Semaphore(at_once or len(questions))
        async with _session() as session:

            async def in_turn(question: Question) -> Got:
                async with places:
                    return await ask(session, question)

            return await asyncio.gather(*map(in_turn, questions))

    return _in_thread(go())


class Load:
    """Callers who ask one question after the other until they are told to stop.

    Attributes:
        got: what became of their questions so far.
    """

    def __init__(self, questions: Iterator[Question], callers: int, pause_s: float) -> None:
        self.got: list[Got] = []
        self._questions = questions
        self._callers = callers
        self._pause_s = pause_s
        self._stopping = False

    def stop(self) -> None:
        """Nobody asks anything more; what was asked is waited for."""
        self._stopping = True

    async def run(self) -> None:
        async with _session() as session:
            await asyncio.gather(*(self._caller(session) for _ in range(self._callers)))

    async def _caller(self, session: aiohttp.ClientSession) -> None:
        while not self._stopping:
            got = await ask(session, next(self._questions))
            self.got.append(got)
            await asyncio.sleep(self._pause_s if got.status else max(self._pause_s, _AFTER_REFUSED_CONNECTION_S))


@contextmanager
def load(question_of: Callable[[int], Question], *, callers: int, pause_s: float = 0) -> Iterator[Load]:
    """Asks for as long as the block runs, then waits for what is under way.

    Args:
        question_of: the question of this number, from 0.
        pause_s: of each caller between two questions.
    """
    under_way = Load(map(question_of, itertools.count()), callers, pause_s)
    thread = threading.Thread(target=asyncio.run, args=(under_way.run(),), name="callers", daemon=True)
    thread.start()
    try:
        yield under_way
    finally:
        under_way.stop()
        thread.join(_TIMEOUT_S)
        assert not thread.is_alive(), "callers still wait"


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    # a connection per question: which of a pool's connections died with a gateway is not what is tested
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=timeout)


def _in_thread(work: Coroutine[Any, Any, list[Got]]) -> list[Got]:
    """Runs it on an event loop of its own, also where the test has one."""
    with ThreadPoolExecutor(1, thread_name_prefix="callers") as thread:
        return thread.submit(asyncio.run, work).result()
