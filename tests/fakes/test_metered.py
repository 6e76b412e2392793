"""The metered upstream bills what it was sent, at the pace that the model's name says, and sees callers leave."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.metered import Metered, metered

_QUESTION = "marker-1 " + "x" * 31


@pytest.fixture(scope="module")
def running() -> Iterator[Metered]:
    with metered() as upstream:
        yield upstream


@pytest.fixture
def upstream(running: Metered) -> Metered:
    running.forget()
    return running


def _body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": _QUESTION}], **fields}


def _ask(upstream: Metered, model: str, **fields: Any) -> httpx2.Response:
    return httpx2.post(
        f"{upstream.base_url}/chat/completions", json=_body(model, **fields), headers={"x-request-id": "r1"}
    )


def _events(response: httpx2.Response) -> list[Any]:
    blocks = response.text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


def _connected(upstream: Metered, model: str) -> socket.socket:
    """A caller who has asked for a stream."""
    body = json.dumps(_body(model, stream=True)).encode()
    sock = socket.create_connection(("127.0.0.1", upstream.port))
    sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    return sock


def test_whole_answer_is_billed_by_the_prompts_length_and_its_own_words(upstream: Metered) -> None:
    answer = _ask(upstream, "m-0-0-3").json()
    assert answer["choices"][0]["message"]["content"] == "one two three "
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def test_stream_is_billed_the_same_where_usage_was_asked_for(upstream: Metered) -> None:
    *chunks, usage = _events(_ask(upstream, "m-0-0-3", stream=True, stream_options={"include_usage": True}))
    said = [chunk["choices"][0]["delta"].get("content") for chunk in chunks]
    assert said == ["one ", "two ", "three ", None]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert not any("usage" in event for event in _events(_ask(upstream, "m-0-0-3", stream=True)))


def test_silent_model_never_says_what_it_used(upstream: Metered) -> None:
    events = _events(_ask(upstream, "m-0-0-3-silent", stream=True, stream_options={"include_usage": True}))
    assert not any("usage" in event for event in events)
    assert "usage" not in _ask(upstream, "m-0-0-3-silent").json()


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_wish_for_length_is_the_number_of_deltas(upstream: Metered, field: str) -> None:
    assert _ask(upstream, "m-0-0-3", **{field: 5}).json()["usage"]["completion_tokens"] == 5


def test_name_sets_the_pace(upstream: Metered) -> None:
    start_s = time.monotonic()
    _ask(upstream, "m-60-10-5-x17", stream=True)
    _ask(upstream, "m-60-10-4")
    assert time.monotonic() - start_s >= 0.06 + 4 * 0.01 + 0.06 + 4 * 0.01
    first, second = upstream.log()
    assert [first.events_sent, second.events_sent] == [5, 4]


def test_log_tells_what_came_and_how_it_ended(upstream: Metered) -> None:
    answer = _ask(upstream, "m-0-0-3").json()
    (seen,) = upstream.log()
    assert (seen.marker, seen.model, seen.stream, seen.request_id) == ("marker-1", "m-0-0-3", False, "r1")
    assert seen.response_id == answer["id"]
    assert (seen.prompt_tokens, seen.deltas, seen.events_sent, seen.finished) == (10, 3, 3, True)
    assert seen.ended_at is not None
    assert seen.ended_at >= seen.arrived_at
    upstream.forget()
    assert upstream.log() == []


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("model", ["m-5000-0-3", "m-0-20-1000"])
def test_caller_who_leaves_is_noticed_within_milliseconds(upstream: Metered, model: str, reset: bool) -> None:
    sock = _connected(upstream, model)
    time.sleep(0.15)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left_at = time.time()
    sock.close()
    (seen,) = upstream.ended()
    assert not seen.finished
    assert seen.ended_at is not None
    assert seen.ended_at - left_at < 0.1
    assert (0 < seen.events_sent < 1000) == (model == "m-0-20-1000")
    time.sleep(0.05)
    assert upstream.log() == [seen], "it went on for somebody who left"


def test_connection_carries_one_request_after_the_other(upstream: Metered) -> None:
    with httpx2.Client() as client:
        for stream in (True, False, True):
            client.post(f"{upstream.base_url}/chat/completions", json=_body("m-0-0-3", stream=stream))
    assert [seen.finished for seen in upstream.log()] == [True] * 3


def test_unknown_model_is_not_found(upstream: Metered) -> None:
    assert _ask(upstream, "gpt-4").status_code == 404
    assert upstream.log() == []
