"""Whatever a backend sends, a translator gives a sentence of the event grammar or one `BackendError`, nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backends.base import Translator
from app.backends.registry import spec_of
from app.core.errors import BackendBusy, BackendError, BackendProtocolError
from app.core.events import Event, Failure, Finish, TextDelta, collect
from app.core.types import Frame
from tests.backends.exchanges import CONTEXT, chat_request

ASKED = chat_request({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True})

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def nearly(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with these members, any of them absent, null or anything at all."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(good, good, st.none(), anything) for name, good in members.items()}
    )


tool_calls = st.lists(
    nearly(index=st.integers(0, 2), id=st.text(max_size=3), function=nearly(name=st.text(), arguments=st.text())),
    max_size=2,
)
said = nearly(content=st.text(max_size=4), reasoning_content=st.text(max_size=4), tool_calls=tool_calls)
choices = st.lists(
    nearly(
        delta=said,
        message=said,
        finish_reason=st.sampled_from(["", "stop", "normal", "length", "tool_calls", "network_error", "new"]),
        flag=st.integers(0, 4),
    ),
    max_size=2,
)
usage = nearly(
    prompt_tokens=st.integers(-1, 99),
    completion_tokens=st.integers(-1, 99),
    prompt_tokens_details=nearly(cached_tokens=st.integers(-1, 999)),
    completion_tokens_details=nearly(reasoning_tokens=st.integers(-1, 999)),
)
errors = nearly(code=st.sampled_from(["1113", "429", 429, 500]), message=st.text(), type=st.text())
chunks = nearly(choices=choices, usage=usage, id=st.text()) | nearly(
    choices=choices, error=errors, code=st.integers(), message=st.text(), error_code=st.integers(), detail=st.text()
)
payloads = st.one_of(
    chunks.map(lambda chunk: json.dumps(chunk).encode()),
    chunks.map(lambda chunk: json.dumps(chunk).encode()),
    anything.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
    st.just(b"[DONE]"),
)


def translator(kind: str) -> Translator:
    spec = spec_of(kind)
    made = spec.translator("b", spec.options.model_validate({"base_url": "http://vendor.test", "api_key": "k"}), "m")
    made.call(ASKED, CONTEXT)
    return made


def read(made: Translator, frames: Iterable[bytes]) -> tuple[list[Event], BackendError | None]:
    events: list[Event] = []
    try:
        for frame in frames:
            events.extend(made.receive(Frame(frame)))
        events.extend(made.receive_eof())
    except BackendError as error:
        return events, error
    return events, None


@pytest.mark.parametrize("kind", ["openai", "qianfan"])
@given(frames=st.lists(payloads, max_size=6))
def test_any_frames_end_in_one_terminal_or_one_error(kind: str, frames: list[bytes]) -> None:
    events, error = read(translator(kind), frames)
    terminals = [event for event in events if isinstance(event, Finish | Failure)]
    assert len(terminals) + (error is not None) == 1
    if error is None:
        assert events[-1] is terminals[0]
        answer = collect(events)
        assert answer.usage is None or 0 <= answer.usage.cached_tokens <= answer.usage.input_tokens


@pytest.mark.parametrize("kind", ["openai", "qianfan"])
@given(
    status=st.integers(100, 599),
    body=payloads | payloads.map(lambda body: b"event:error\ndata:" + body + b"\n\n"),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-remaining-requests"]), st.text(max_size=5)
    ),
)
def test_any_refusal_becomes_a_backend_error(kind: str, status: int, body: bytes, headers: dict[str, str]) -> None:
    error = translator(kind).refused(status, headers, body)
    assert isinstance(error, BackendError)
    assert len(error.detail) <= 500
    assert (getattr(error, "retry_after_s", None) or 0) >= 0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "inf"}, 7.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Fri, 20 Nov 2026 08:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_only_a_wait_that_makes_sense_is_passed_on(headers: dict[str, str], wait_s: float | None) -> None:
    error = translator("openai").refused(429, headers, b"")
    assert isinstance(error, BackendBusy)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"choices":' * 50_000, b'{"error":' + b"[" * 100_000])
def test_deep_nesting_is_no_answer(nested: bytes) -> None:
    with pytest.raises(BackendProtocolError):
        list(translator("openai").receive(Frame(nested)))
    assert isinstance(translator("openai").refused(400, {}, nested), BackendError)


def test_frames_after_the_end_are_ignored() -> None:
    answer = b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}'
    assert read(translator("openai"), [answer, b"[DONE]", answer, b"[DONE]"]) == (
        [TextDelta("a"), Finish("stop")],
        None,
    )


def test_arguments_only_continue_the_last_call() -> None:
    call = {"choices": [{"delta": {"tool_calls": [{"index": 1, "function": {"name": "f", "arguments": "{"}}]}}]}
    more = {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "}"}}]}, "finish_reason": "stop"}]}
    events, error = read(translator("openai"), [json.dumps(value).encode() for value in (call, more)])
    assert error is None
    (made,) = collect(events).tool_calls
    assert (made.name, made.arguments) == ("f", "{}")
    assert collect(events).finish_reason == "tool_calls"
