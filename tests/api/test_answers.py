"""What a good answer looks like, whole and streamed: OpenAI's schema, to the letter."""

from __future__ import annotations

import gc
import json
import time

import pytest
from structlog.testing import capture_logs

from app.api.schemas import ChatBody
from app.core.types import HttpCall, ImagePart, ImageSource
from tests.api.pictures import data_url, picture, question
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.server import Served, events_of


def test_whole_answer_has_every_required_field(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("一只猫"))
    response = served.chat()
    body = response.json()
    assert response.status_code == 200
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert abs(body["created"] - time.time()) < 60
    assert body["model"] == "m"
    message = {"role": "assistant", "content": "一只猫", "refusal": None}
    assert body["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {
        "prompt_tokens": 120,
        "completion_tokens": 8,
        "total_tokens": 128,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
        "cost": 0.000576,
    }
    assert response.headers["x-tuwen-cost"] == "0.000576"


def test_stream_runs_from_role_to_done(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("一只", "猫"))
    response = served.chat(stream=True)
    *data, last = events_of(response.text)
    chunks = [json.loads(item) for item in data]
    assert last == "[DONE]"
    assert response.text.endswith("data: [DONE]\n\n")
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "一只猫"
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}


def test_stream_headers_suit_browsers_and_proxies(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("x"))
    headers = served.chat(stream=True).headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers


def test_stream_lines_hold_one_json_each_and_end_in_lf_alone(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("one\ntwo\r\n", "三"))
    body = served.chat(stream=True).text
    assert "\r" not in body
    assert all(block.startswith("data: ") and "\n" not in block for block in body.split("\n\n") if block)


def test_long_deltas_are_cut_below_the_line_limit_of_go(served: Served, upstream: Upstream) -> None:
    text = "长" * 60_000
    upstream.answer(openai.stream(text))
    data = events_of(served.chat(stream=True).text)
    assert max(len(item.encode()) for item in data) < 64 * 1024
    assert "".join(json.loads(item)["choices"][0]["delta"].get("content", "") for item in data[:-1]) == text


def test_long_arguments_of_a_tool_call_are_cut_likewise(served: Served, upstream: Upstream) -> None:
    arguments = json.dumps({"text": "长" * 60_000}, ensure_ascii=False)
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    upstream.answer(openai.answer("", tool_calls=[call], finish_reason="tool_calls"))
    tools = [{"type": "function", "function": {"name": "look"}}]
    data = events_of(served.chat(stream=True, tools=tools).text)
    pieces = [piece for item in data[:-1] for piece in json.loads(item)["choices"][0]["delta"].get("tool_calls", [])]
    assert max(len(item.encode()) for item in data) < 64 * 1024
    assert "".join(piece["function"]["arguments"] for piece in pieces) == arguments
    assert [piece["id"] for piece in pieces if "id" in piece] == ["call_1"]
    assert [piece["function"]["name"] for piece in pieces if "name" in piece["function"]] == ["look"]


def test_usage_chunk_comes_only_when_asked_for(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("x"), openai.stream("x"))
    unasked = [json.loads(item) for item in events_of(served.chat(stream=True).text)[:-1]]
    asked = served.chat(stream=True, stream_options={"include_usage": True})
    last = json.loads(events_of(asked.text)[-2])
    assert all(chunk["choices"] and not chunk.get("usage") for chunk in unasked)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 128


def test_upstream_is_always_asked_for_usage(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("x"))
    served.chat(stream=True)
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}


def test_missing_usage_is_estimated_and_booked_as_an_estimate(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.reply({"choices": [{"message": {"content": "四个汉字"}, "finish_reason": "stop"}]}))
    response = served.chat()
    usage = response.json()["usage"]
    assert usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert served.booked(response).usage_source == "estimated"


def test_asked_name_is_echoed_for_aliases_and_wildcards(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("x"), openai.answer("x"))
    assert served.chat("m-vision").json()["model"] == "m-vision"
    assert served.chat("any-thing").json()["model"] == "any-thing"
    assert [request.json["model"] for request in upstream.requests] == ["remote-m", "any-thing"]


def test_reasoning_travels_beside_the_answer(served: Served, upstream: Upstream) -> None:
    thinking = {"reasoning_content": "let me look"}
    upstream.answer(openai.stream(thinking, "a cat"), openai.answer("a cat", **thinking))
    deltas = [json.loads(item)["choices"][0]["delta"] for item in events_of(served.chat(stream=True).text)[:-1]]
    whole = served.chat().json()["choices"][0]["message"]
    assert {"reasoning_content": "let me look"} in deltas
    assert {"content": "a cat"} in deltas
    assert (whole["reasoning_content"], whole["content"]) == ("let me look", "a cat")


def test_tool_calls_pass_through_streamed_and_whole(served: Served, upstream: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":'}}
    rest = {"index": 0, "function": {"arguments": '"cat"}'}}
    upstream.answer(
        openai.stream({"tool_calls": [{"index": 0, **call}]}, {"tool_calls": [rest]}, finish_reason="tool_calls"),
        openai.answer("", tool_calls=[call], finish_reason="tool_calls"),
    )
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    streamed = [json.loads(item) for item in events_of(served.chat(stream=True, tools=tools).text)[:-1]]
    pieces = [piece for chunk in streamed for piece in chunk["choices"][0]["delta"].get("tool_calls", [])]
    whole = served.chat(tools=tools).json()["choices"][0]
    assert pieces[0]["id"] == "call_1"
    assert "".join(piece["function"]["arguments"] for piece in pieces) == '{"at":"cat"}'
    assert streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] is None
    assert whole["message"]["tool_calls"] == [call]
    assert upstream.requests[0].json["tools"] == tools


@pytest.mark.parametrize("stream", [True, False])
def test_connection_is_reused_after_an_answer(served: Served, upstream: Upstream, stream: bool) -> None:
    upstream.answer(*[openai.stream("x") if stream else openai.answer("x") for _ in range(3)])
    for _ in range(3):
        assert served.chat(stream=stream).status_code == 200
    assert len({request.connection for request in upstream.requests}) == 1


def test_text_reaches_the_caller_while_the_upstream_still_speaks(served: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "second"))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with served.client.stream("POST", "/v1/chat/completions", json=body) as response:
        pieces = response.iter_text()
        read = ""
        while "first" not in read:
            read += next(pieces)
        assert "second" not in read
        gate.open()
        rest = "".join(pieces)
    assert "second" in rest


def pictures_held() -> int:
    """How many objects of this process are, or hold, a picture on its way through the gateway."""
    gc.collect()
    return sum(isinstance(held, ChatBody | ImageSource | ImagePart | HttpCall) for held in gc.get_objects())


def test_open_stream_keeps_no_picture(served: Served, upstream: Upstream) -> None:
    before = pictures_held()
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "second"))
    large = picture((800, 600), "BMP")  # over a mebibyte as base64, where bodies are sent in another way
    body = {"model": "m", "stream": True, "messages": question(data_url(large, "image/bmp"))}
    with served.client.stream("POST", "/v1/chat/completions", json=body) as response:
        pieces = response.iter_text()
        while "first" not in next(pieces):
            pass
        while_open = pictures_held()
        gate.open()
        rest = "".join(pieces)
    assert while_open == before
    assert "second" in rest


def test_silent_model_gets_headers_and_comments_meanwhile(eager: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.Reply(200, openai.SSE, [gate, *openai.stream("late").steps]))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with eager.client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        pieces = response.iter_text()
        read = ""
        while read.count(": ") < 3:
            read += next(pieces)
        gate.open()
        rest = "".join(pieces)
    assert all(line.startswith(":") for line in read.split("\n") if line)
    assert [item for item in events_of(rest) if "late" in item]


def test_fault_before_the_first_word_has_its_own_status(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(503), openai.error(503))
    assert served.chat(stream=True).status_code == 503


def test_fault_after_the_heartbeat_comes_in_band(eager: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.Reply(200, openai.SSE, [gate, b'data: {"error":{"message":"x","code":"internal"}}\n\n']))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with eager.client.stream("POST", "/v1/chat/completions", json=body) as response:
        pieces = response.iter_text()
        read = next(pieces)
        gate.open()
        read += "".join(pieces)
    error = json.loads(events_of(read)[-1])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "[DONE]" not in read
    assert eager.row(response.headers["x-request-id"]).outcome == "failed"


def test_broken_stream_keeps_its_text_and_never_looks_whole(served: Served, upstream: Upstream) -> None:
    broken = openai.Reply(200, openai.SSE, openai.stream("half an answer").steps[:2])
    upstream.answer(broken)
    response = served.chat(stream=True)
    data = [json.loads(item) for item in events_of(response.text)]
    assert data[1]["choices"][0]["delta"]["content"] == "half an answer"
    assert "error" in data[-1]
    assert "[DONE]" not in response.text
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in data[:-1])
    row = served.booked(response)
    assert (row.outcome, row.error_code) == ("failed", "backend_protocol_error")
    assert row.output_tokens > 0


def test_next_route_answers_where_the_first_cannot_be_reached(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("from the second"))
    response = served.chat("fallback")
    assert response.json()["choices"][0]["message"]["content"] == "from the second"
    row = served.booked(response)
    assert (row.backend, row.backend_model) == ("fake", "second")


def test_booked_row_says_what_was_used_and_what_it_cost(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.stream("x"))
    response = served.chat(stream=True, messages=question(data_url(picture())))
    row = served.booked(response)
    assert (row.model, row.backend, row.backend_model, row.stream) == ("m", "fake", "remote-m", True)
    assert (row.input_tokens, row.output_tokens, row.usage_source, row.image_count) == (120, 8, "upstream", 1)
    assert row.cost_micros == 120 * 4 + 8 * 12
    assert row.backend_request_id == "chatcmpl-fake"
    assert row.outcome == "finished"
    assert row.first_event_ms is not None
    assert row.total_ms >= row.first_event_ms


def test_row_is_booked_before_the_answer_ends(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("x"))
    response = served.chat()
    assert any(row.request_id == response.headers["x-request-id"] for row in served.rows())


def test_caller_who_leaves_ends_the_upstream_call_and_is_booked_as_gone(served: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "never"))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with served.client.stream("POST", "/v1/chat/completions", json=body) as response:
        pieces = response.iter_text()
        while "first" not in next(pieces):
            pass
    upstream.requests[0].wait_closed()
    row = served.row(response.headers["x-request-id"])
    assert row.outcome == "gone"
    assert row.output_tokens > 0


def test_caller_who_leaves_is_nothing_to_log_as_an_error(served: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "never"))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with capture_logs() as lines:
        with served.client.stream("POST", "/v1/chat/completions", json=body) as response:
            pieces = response.iter_text()
            while "first" not in next(pieces):
                pass
        assert served.row(response.headers["x-request-id"]).outcome == "gone"
        upstream.answer(openai.error(400))
        served.chat()
    assert [line["event"] for line in lines if line["log_level"] in ("warning", "error")] == ["backend fault"]


def test_refused_request_is_booked_without_a_cost(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(400, code="bad"))
    row = served.booked(served.chat())
    assert (row.outcome, row.cost_micros, row.output_tokens) == ("failed", 0, 0)
