"""`Idempotency-Key` as callers meet it: one call, one charge, and the same answer for whoever asks again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai as sdk
import pytest

from tests.api.idempotent import MODELS, PATH, body_of, waiting, wire
from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
ANSWER_MAX_BYTES = 20_000
GIVEN_UP_S = 5


@pytest.fixture(scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def _served(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models, bounds = MODELS.format(url=_upstream.url), {"answer_max_bytes": ANSWER_MAX_BYTES}
    with serving(tmp_path_factory.mktemp("gateway"), models, **bounds) as site:
        yield site


class Caller:
    """Asks with an Idempotency-Key of the test's own."""

    def __init__(self, served: Served, name: str) -> None:
        self.served = served
        self.name = name
        self._rows_before = len(served.rows())

    def ask(self, *, name: str | None = None, **fields: Any) -> httpx2.Response:
        return self.served.client.post(PATH, content=body_of(**fields), headers=self.headers(name))

    def headers(self, name: str | None = None) -> dict[str, str]:
        return {"idempotency-key": self.name if name is None else name, "content-type": "application/json"}

    def ask_again(self, **fields: Any) -> httpx2.Response:
        """Asks until no twin is in the way: that an answer broke is heard before the claim is free."""
        deadline = time.monotonic() + GIVEN_UP_S
        while (response := self.ask(**fields)).status_code == 409:
            assert time.monotonic() < deadline, "the claim was not given up"
        return response

    @property
    def booked(self) -> int:
        """How many requests were booked meanwhile."""
        return len(self.served.rows()) - self._rows_before


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.forget()
    return _upstream


@pytest.fixture
def caller(_served: Served, upstream: Upstream, request: pytest.FixtureRequest) -> Caller:
    return Caller(_served, f"order of {request.node.name}")


def error_of(response: httpx2.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return response.status_code, error["code"], error["param"]


async def _parallel(caller: Caller, count: int, body: bytes, seen: Callable[[int], None]) -> list[httpx2.Response]:
    """Asks at the same time; `seen` is told how many have their answer."""
    headers = {**caller.headers(), "authorization": f"Bearer {caller.served.key}"}
    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=caller.served.url, timeout=20, limits=limits, trust_env=False) as client:
        pending = {asyncio.ensure_future(client.post(PATH, content=body, headers=headers)) for _ in range(count)}
        done = set[asyncio.Future[httpx2.Response]]()
        while pending:
            ready, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            done |= ready
            seen(len(done))
        return [each.result() for each in done]


def ask_in_parallel(
    caller: Caller, count: int, *, seen: Callable[[int], None] = lambda _: None, **fields: Any
) -> list[httpx2.Response]:
    return asyncio.run(_parallel(caller, count, body_of(**fields), seen))


@pytest.mark.parametrize("stream", [False, True])
def test_a_hundred_twins_are_one_call_and_one_charge(caller: Caller, upstream: Upstream, stream: bool) -> None:
    upstream.answer(wire(stream, "一只", "猫"))
    responses = ask_in_parallel(caller, 100, stream=stream)
    answers = {response.content for response in responses if response.status_code == 200}
    assert {response.status_code for response in responses} <= {200, 409}
    assert len(answers) == 1
    assert len(upstream.requests) == caller.booked == 1


@pytest.mark.parametrize("stream", [False, True])
def test_twins_of_a_running_request_are_told_to_come_again_and_then_get_its_answer(
    caller: Caller, upstream: Upstream, stream: bool
) -> None:
    gate = Gate()
    upstream.answer(waiting(gate, stream, "一只", "猫"))
    responses = ask_in_parallel(caller, 100, stream=stream, seen=lambda done: gate.open() if done == 99 else None)
    [first] = [response for response in responses if response.status_code == 200]
    twins = [response for response in responses if response is not first]
    assert {error_of(twin) for twin in twins} == {(409, "idempotency_conflict", None)}
    assert {twin.headers["retry-after"] for twin in twins} == {"1"}
    later = ask_in_parallel(caller, 100, stream=stream)
    assert {response.status_code for response in later} == {200}
    assert {response.content for response in later} == {first.content}
    assert len(upstream.requests) == caller.booked == 1


@pytest.mark.parametrize("stream", [False, True])
def test_replay_is_the_answer_to_the_byte_under_an_id_of_its_own(
    caller: Caller, upstream: Upstream, stream: bool
) -> None:
    upstream.answer(wire(stream, "一只", "猫"))
    first, second = (caller.ask(stream=stream, tools=[TOOL, {"type": "web_search"}]) for _ in range(2))
    assert second.content == first.content
    for name in ("content-type", "x-tuwen-notice", "x-tuwen-cost", "cache-control"):
        assert second.headers.get(name) == first.headers.get(name)
    assert "x-tuwen-notice" in first.headers
    assert stream or "x-tuwen-cost" in first.headers
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert "x-tuwen-idempotent-replay" not in first.headers
    assert second.headers["x-tuwen-idempotent-replay"] == "true"


def test_requests_without_the_header_are_answered_each(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("first"), openai.answer("second"), openai.answer("third"))
    assert [caller.served.chat().json()["choices"][0]["message"]["content"] for _ in range(2)] == ["first", "second"]
    assert caller.ask(name="").json()["choices"][0]["message"]["content"] == "third"


def test_same_key_for_another_body_is_refused(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("first"))
    caller.ask()
    assert error_of(caller.ask(seed=1)) == (400, "idempotency_key_reused", None)
    assert caller.ask().headers["x-tuwen-idempotent-replay"] == "true"


def test_refusals_are_told_in_chinese_where_asked(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("first"))
    caller.ask()
    headers = {**caller.headers(), "accept-language": "zh-CN"}
    response = caller.served.client.post(PATH, content=body_of(seed=1), headers=headers)
    assert "另一个请求" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["x" * 256, "tab\tinside", "名字".encode().decode("latin-1")])
def test_header_that_cannot_be_a_key_is_refused(caller: Caller, upstream: Upstream, name: str) -> None:
    headers = [(b"idempotency-key", name.encode("latin-1")), (b"content-type", b"application/json")]
    response = caller.served.client.post(PATH, content=body_of(), headers=headers)
    assert error_of(response) == (400, "invalid_idempotency_key", None)
    assert upstream.requests == []


def test_longest_key_is_taken(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("x"))
    names = ["~" + " " * 253 + "!"] * 2
    assert [caller.ask(name=name).headers.get("x-tuwen-idempotent-replay") for name in names] == [None, "true"]


def test_stranger_is_turned_away_before_anything_is_claimed(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("x"))
    headers = {**caller.headers(), "authorization": "Bearer sk-tw-nobody"}
    assert caller.served.client.post(PATH, content=body_of(), headers=headers).status_code == 401
    assert caller.ask().status_code == 200


BAD = [
    ("a refused request", None, {"temperature": 9}, 400),
    ("a backend that refuses", openai.error(400, code="bad", message="no"), {}, 400),
    ("a busy backend", openai.error(429, code="rate_limit_exceeded", message="slow"), {}, 429),
    ("a broken backend", openai.error(500, code="x", message="x"), {}, 503),
    ("a refused stream", openai.error(400, code="bad", message="no"), {"stream": True}, 400),
]


@pytest.mark.parametrize(("reply", "fields", "status"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_request_that_failed_can_be_tried_again(
    caller: Caller, upstream: Upstream, reply: Reply | None, fields: dict[str, Any], status: int
) -> None:
    if reply is not None:
        upstream.answer(reply, reply)
    first = caller.ask(**fields)
    assert first.status_code // 100 == status // 100
    again = {**fields, "temperature": 1} if reply is None else fields
    upstream.forget()
    upstream.answer(wire(fields.get("stream", False), "now"))
    second = caller.ask(**again)
    assert second.status_code == 200  # at once: the claim was free before the error left
    assert "x-tuwen-idempotent-replay" not in second.headers


def test_stream_that_broke_can_be_tried_again(caller: Caller, upstream: Upstream) -> None:
    whole = openai.stream("half", "other half")
    upstream.answer(Reply(200, openai.SSE, [*whole.steps[:2], Cut()]))
    first = caller.ask(stream=True)
    assert first.status_code == 200
    assert '"error"' in first.text
    assert "[DONE]" not in first.text
    upstream.answer(whole)
    second = caller.ask_again(stream=True)
    assert second.text.endswith("data: [DONE]\n\n")
    assert "x-tuwen-idempotent-replay" not in second.headers


def test_caller_who_left_can_ask_again(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.stream("first", Gate(), "never"))
    content, headers = body_of(stream=True), caller.headers()
    with caller.served.client.stream("POST", PATH, content=content, headers=headers) as response:
        next(response.iter_bytes())
    assert caller.served.row(response.headers["x-request-id"]).outcome == "gone"
    upstream.answer(openai.stream("now"))
    second = caller.ask_again(stream=True)
    assert "now" in second.text
    assert "x-tuwen-idempotent-replay" not in second.headers


@pytest.mark.parametrize("stream", [False, True])
def test_answer_too_large_to_be_kept_is_given_once(caller: Caller, upstream: Upstream, stream: bool) -> None:
    upstream.answer(wire(stream, "x" * (ANSWER_MAX_BYTES // 2), "y" * ANSWER_MAX_BYTES))
    assert caller.ask(stream=stream).status_code == 200
    twin = caller.ask(stream=stream)
    assert error_of(twin) == (409, "idempotency_answer_not_kept", None)
    assert twin.headers["x-should-retry"] == "false"
    assert "retry-after" not in twin.headers
    assert len(upstream.requests) == caller.booked == 1


def test_large_body_is_told_from_another(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("x"))
    messages = [[{"role": "user", "content": "x" * 300_000 + end}] for end in ("a", "a", "b")]
    assert [caller.ask(messages=each).status_code for each in messages] == [200, 200, 400]


def test_database_holds_neither_header_nor_question_nor_answer(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("a very secret answer"))
    messages = [{"role": "user", "content": "a very secret question"}]
    response = caller.ask(messages=messages, name="a very secret header")
    assert "a very secret answer" in response.text
    folder = caller.served.settings.data_dir
    stored = b"".join(file.read_bytes() for file in folder.glob("tuwen.db*"))
    assert response.headers["x-request-id"].encode() in stored  # what is not hidden can be found
    assert b"very secret" not in stored


def test_official_client_gets_its_answer_again(caller: Caller, upstream: Upstream) -> None:
    upstream.answer(openai.answer("一只猫"))
    with sdk.OpenAI(base_url=f"{caller.served.url}/v1", api_key=caller.served.key, max_retries=0) as client:
        asking = client.chat.completions.with_raw_response.create
        question: Any = [{"role": "user", "content": "hi"}]
        headers = {"Idempotency-Key": caller.name}
        first, second = (asking(model="m", messages=question, extra_headers=headers) for _ in range(2))
    assert first.parse() == second.parse()
    assert first.parse().choices[0].message.content == "一只猫"
    assert second.headers["x-tuwen-idempotent-replay"] == "true"


def test_official_client_waits_for_its_twin(caller: Caller, upstream: Upstream) -> None:
    # a second of it is the client's: it waits as long as it is told
    gate, statuses = Gate(), list[int]()

    def noted(response: Any) -> None:
        statuses.append(response.status_code)
        gate.open()

    upstream.answer(waiting(gate, False, "一只猫"))
    hooks = sdk.DefaultHttpxClient(event_hooks={"response": [noted]})
    headers = {"Idempotency-Key": caller.name}
    with (
        ThreadPoolExecutor(1) as beside,
        sdk.OpenAI(base_url=f"{caller.served.url}/v1", api_key=caller.served.key) as first,
        sdk.OpenAI(base_url=f"{caller.served.url}/v1", api_key=caller.served.key, http_client=hooks) as twin,
    ):
        question: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "extra_headers": headers}
        running = beside.submit(first.chat.completions.create, **question)
        upstream.wait_for_requests(1)
        assert twin.chat.completions.create(**question) == running.result(10)
    assert statuses == [409, 200]
