"""Requests that cannot be meant: each gets its 4xx, OpenAI's error object, the path of the field, and reaches nobody.

FUZZ_EXAMPLES sets how many are drawn.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.conftest import MODELS
from tests.api.malformed import refusal
from tests.api.pictures import data_url, picture
from tests.fakes import openai
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream
from tests.support.damage import places, put
from tests.support.rawhttp import exchange
from tests.support.server import Served, serving

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
SLOWEST_S = 5.0
CHAT = "/v1/chat/completions"
TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
}
FULL: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be brief", "name": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": data_url(picture()), "detail": "high"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "found"},
        {"role": "user", "content": "so?"},
    ],
    "stream": False,
    "stream_options": {"include_usage": True},
    "max_tokens": 9,
    "temperature": 1.0,
    "top_p": 0.5,
    "stop": ["x"],
    "seed": 1,
    "n": 1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {"1": 1},
    "logprobs": False,
    "user": "u",
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "metadata": {"a": "b"},
    "reasoning_effort": "low",
}
PLUGIN = {
    "query": "what {a}",
    "fileurl": data_url(picture()),
    "plugins": ["uuid-chatocr"],
    "stream": False,
    "verbose": False,
    "llm": {"temperature": 0.5, "top_p": 0.5, "penalty_score": 1.0},
    "input_variables": {"a": "b"},
    "history": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
}

numbers = st.sampled_from([0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**70), 10**300, 1.5, -0.0, 1e308])
texts = st.sampled_from(["", " ", "\x00", "\ud800", "null", "é" * 500, "m", "a\r\nb", "../..", "`$.x`", "data:,x"])
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
RAW = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"[" * 200 + b"]" * 200,
    b'{"a":' * 200 + b"1" + b"}" * 200,
    b"9" * 5000,
    b"01",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\xff"',
    b"'x'",
    b"tru",
    b"",
    b'{"a":1,"a":2}',
    b"\x00",
    b'"\\x"',
    b"+1",
    b".5",
]
_HOLE = "hole-for-raw-json"

fuzzed = settings(
    max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck), deadline=None
)


@pytest.fixture(scope="module")
def upstream_() -> Iterator[Upstream]:
    with Upstream(api_key="k").in_thread() as upstream:
        upstream.otherwise(_answered)
        yield upstream


def _answered(request: Received) -> Reply:
    return openai.stream("a", "b") if request.json.get("stream") else openai.answer("ab")


@pytest.fixture(scope="module")
def site(upstream_: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = (
        MODELS.format(url=upstream_.url, key="k")
        + '\n[models.chatocr-vision]\nroutes = [{ backend = "fake", model = "c" }]'
    )
    with serving(tmp_path_factory.mktemp("fuzzed"), models, first_event_s=4, idle_s=4, log_level="error") as served:
        yield served


def param_of(path: tuple[Any, ...]) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return steps.removeprefix(".")


@st.composite
def damaged(draw: st.DrawFn, body: dict[str, Any]) -> tuple[tuple[Any, ...], bytes]:
    """A body with a value changed, and the path of it."""
    path = draw(st.sampled_from(places(body)[1:]))
    if draw(st.booleans()):
        return path, json.dumps(put(body, path, draw(anything))).encode()
    hollow = json.dumps(put(body, path, _HOLE)).encode()
    return path, hollow.replace(f'"{_HOLE}"'.encode(), draw(st.sampled_from(RAW)))


def test_damaged_chat_requests_are_answered_or_refused(site: Served, upstream_: Upstream) -> None:
    @fuzzed
    @given(damaged(FULL))
    def run(given_: tuple[tuple[Any, ...], bytes]) -> None:
        path, body = given_
        upstream_.forget()
        begun_s = time.monotonic()
        answer = site.client.post(CHAT, content=body, headers=site.headers)
        assert time.monotonic() - begun_s < SLOWEST_S
        if answer.status_code == 200:
            assert set(upstream_.requests[0].json) <= {*FULL, "max_completion_tokens"}
            return
        error = refusal(answer)
        assert not upstream_.requests
        param = error["param"]
        if param is None:
            words = r"not valid (JSON|UTF-8)|nested deeper|too many|JSON object"
            assert re.search(words, error["message"]), (path, error)
        else:  # the field itself, one within it, one that holds it, or one that goes with it
            ours, theirs = param_of(path), re.sub(r"\[\.\.\.\]", "", param)
            together = {
                "top_logprobs",
                "tool_choice",
                "tool_choice.function.name",
                "response_format.json_schema",
            }
            assert (
                ours.startswith(theirs)
                or theirs.startswith(ours)
                or theirs in together
                or ".".join(theirs.split(".")[:-1]) == ".".join(ours.split(".")[:-1])
            ), (path, error)

    run()


def test_damaged_plugin_requests_are_answered_or_refused(site: Served, upstream_: Upstream) -> None:
    @fuzzed
    @given(damaged(PLUGIN))
    def run(given_: tuple[tuple[Any, ...], bytes]) -> None:
        path, body = given_
        upstream_.forget()
        begun_s = time.monotonic()
        answer = site.client.post("/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/m", content=body, headers=site.headers)
        assert time.monotonic() - begun_s < SLOWEST_S
        assert answer.status_code == 200
        if not answer.headers["content-type"].startswith("text/event-stream"):
            told = answer.json()
            assert "result" in told or set(told) == {"error_code", "error_msg", "log_id"}
            assert told.get("error_code") not in {336000, 216400}, (path, told)  # no fault of ours

    run()


ADMIN: dict[str, Any] = {
    "name": "n",
    "owner": "o",
    "models": ["m"],
    "tags": ["t"],
    "expires": "30d",
    "budget": "1.00",
    "day_budget": "1",
    "month_budget": "1.5",
    "rpm": 1,
    "tpm": 1,
    "concurrency": 1,
    "model_limits": {"m": {"rpm": 1}},
    "log_content": True,
}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/admin/keys", ADMIN), ("/admin/keys/{id}/top-ups", {"amount": "1.00", "note": "n"})],
    ids=["key", "top-up"],
)
def test_damaged_admin_requests_are_answered_or_refused(site: Served, path: str, body: dict[str, Any]) -> None:
    target = path.format(id=site.new_key("damaged")[1])

    @fuzzed
    @given(damaged(body))
    def run(given_: tuple[tuple[Any, ...], bytes]) -> None:
        begun_s = time.monotonic()
        answer = site.client.post(
            target, content=given_[1], headers={**site.headers, "content-type": "application/json"}
        )
        assert time.monotonic() - begun_s < SLOWEST_S
        if answer.status_code not in {200, 201}:
            refusal(answer)

    run()


@fuzzed
@given(
    path=st.sampled_from(
        [
            "/admin/usage",
            "/admin/requests",
            "/admin/export",
            "/v1/usage",
            "/v1/models/x",
            "/dashboard/billing/usage",
            "/oauth/2.0/token",
        ]
    ),
    query=st.lists(
        st.tuples(
            st.sampled_from(["since", "until", "key", "by", "limit", "after", "form", "x", "grant_type", "client_id"]),
            texts
            | st.text(max_size=8)
            | numbers.map(str)
            | st.sampled_from(["nan_a", "1e999_x", "-9999999999d", "99999w"]),
        ),
        max_size=4,
    ),
)
def test_any_query_is_answered_or_refused(site: Served, path: str, query: list[tuple[str, str]]) -> None:
    cleaned = [(name, value.encode("utf-8", "replace").decode()) for name, value in query]
    answer = site.client.get(path, params=cleaned, headers=site.headers)
    assert answer.status_code < 500, answer.text


@fuzzed
@given(
    name=st.sampled_from(
        [
            "idempotency-key",
            "accept-language",
            "content-type",
            "accept",
            "authorization",
            "x-api-key",
            "origin",
            "expect",
            "content-encoding",
            "access-control-request-headers",
            "cookie",
            "x-request-id",
            "te",
            "upgrade",
        ]
    ),
    value=st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=300),
)
def test_any_header_is_answered_or_refused(site: Served, name: str, value: str) -> None:
    headers = [(key.encode(), text.encode()) for key, text in site.headers.items() if key != name]
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
    head = b"".join(key + b": " + text + b"\r\n" for key, text in headers)
    sent = name.encode() + b": " + value.encode("latin-1")
    length = b"content-length: %d\r\nconnection: close\r\nhost: x\r\n" % len(body)
    status, answered, told = exchange(
        site.port, b"POST %b HTTP/1.1\r\n%b%b%b\r\n\r\n%b" % (CHAT.encode(), head, length, sent, body)
    )
    assert 200 <= status < 500, (status, told)
    if status >= 400:
        assert set(json.loads(told)["error"]) == {"message", "type", "param", "code"}, answered


def test_a_callers_own_words_are_told_in_one_printable_line(site: Served) -> None:
    """Found by the above: of an administration's body, the path of a field holds what the caller wrote."""
    body = {"name": "n", "model_limits": {"\x00\n" + "m" * 500: {"rpm": "x"}}}
    error = refusal(site.client.post("/admin/keys", json=body, headers=site.headers))
    assert len(error["message"]) <= 300
    assert str(error["param"]).startswith("model_limits")
    assert str(error["param"]).isprintable()
