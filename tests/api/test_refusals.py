"""What is wrong with a request is said as an OpenAI error object, with the field, and before any backend is asked."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx2
import pytest

from tests.api.pictures import data_url, picture, question
from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.server import Served

HI = [{"role": "user", "content": "hi"}]


def refused(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """The error object of a refusal."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "\n" not in error["message"]
    return error


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 7}, "model"),
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": HI * 3000}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "system", "content": question(data_url(picture()))[0]["content"]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": question("")}, "messages[0].content[0].image_url.url"),
        ({"messages": question("data:image/png;base64,@@@@")}, "messages[0].content[0].image_url.url"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"n": 2}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**12}, "max_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"stream": "true"}, "stream"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"seed": 2**70}, "seed"),
        ({"user": 1}, "user"),
        ({"audio": "alloy"}, "audio"),
        ({"web_search_options": []}, "web_search_options"),
        ({"functions": {}}, "functions"),
        ({"functions": [{"name": 1}]}, "functions[0].name"),
        ({"function_call": True}, "function_call"),
        ({"prompt_cache_retention": 24}, "prompt_cache_retention"),
        ({"stream": True, "stream_options": {"include_obfuscation": 1}}, "stream_options.include_obfuscation"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"logit_bias": {"cat": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"seed": 2**63}, "seed"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": 1}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}},
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": "yes"}}},
            "response_format.json_schema.strict",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tool_choice": {"type": "hologram"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice.function.name"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "g"}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
            "tool_choice.function.name",
        ),
        ({"stream_options": "yes", "stream": True}, "stream_options"),
    ],
)
def test_wrong_field_is_named(served: Served, upstream: Upstream, fields: dict[str, Any], param: str) -> None:
    body = {"model": "m", "messages": HI, **fields}
    error = refused(served.client.post("/v1/chat/completions", json=body))
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"  ",
        b"null",
        b"[]",
        b'"x"',
        b"{'model':'m'}",
        b'{"model":"m","messages":[',
        b'{"model":"m"} x',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"skipped":"\xff"}',
        b'{"model":"m","messages":[{"role":"user","content":"unclosed \\"',
        "{}".encode("utf-16"),
    ],
)
def test_what_is_no_json_object_is_refused(served: Served, text: bytes) -> None:
    refused(served.post(text))


@pytest.mark.parametrize(
    "skipped",
    [
        b"[" * 100 + b"]" * 100,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"[" * 200_000,
        b"[" + b"[]," * 150_000 + b"1]",
        b"[" + b'"",' * 150_000 + b"1]",
        b"{" + b",".join(b'"%d":1' % number for number in range(30_000)) + b"}",
    ],
)
def test_bounds_hold_in_fields_nobody_reads(served: Served, skipped: bytes) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"skipped":' + skipped + b"}"
    refused(served.post(body))


@pytest.mark.parametrize("second", [b'"model"', b'"mod\\u0065l"'])
def test_key_given_twice_is_refused(served: Served, second: bytes) -> None:
    body = b'{"model":"m",' + second + b':"dead","messages":[{"role":"user","content":"x"}]}'
    assert refused(served.post(body))["param"] == "model"


def test_escapes_and_emoji_are_read_right(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    text = 'quote " backslash \\ {[ 🐱🏽 \u202e'
    assert served.chat(messages=[{"role": "user", "content": text}]).status_code == 200
    assert upstream.requests[0].json["messages"][0]["content"] == text


def test_large_body_is_read_off_the_loop_and_whole(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    text = "长" * 200_000
    assert served.chat(messages=[{"role": "user", "content": text}]).status_code == 200
    assert upstream.requests[0].json["messages"][0]["content"] == text


def test_unknown_model_is_named(served: Served) -> None:
    error = refused(served.chat("no-such-model"), 404)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "no-such-model" in error["message"]


def test_control_characters_of_a_model_name_are_not_echoed(served: Served) -> None:
    assert "\r" not in refused(served.chat("evil\r\nX-Evil: 1"), 404)["message"]


def test_model_without_credentials_does_not_exist_here(served: Served) -> None:
    refused(served.chat("unset"), 404)


@pytest.mark.parametrize("chunked", [True, False])
def test_body_over_the_bound_is_told_so(served: Served, chunked: bool) -> None:
    big = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * (5 * 1024 * 1024) + b'"}]}'
    content = iter([big[:1000], big[1000:]]) if chunked else big
    response = served.client.post("/v1/chat/completions", content=content)
    assert refused(response, 413)["code"] == "request_too_large"


def test_caller_who_asks_first_is_told_before_it_sends(served: Served) -> None:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\n"
        "Content-Length: 99000000\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_too_many_pictures_are_refused(served: Served) -> None:
    error = refused(served.chat(messages=question(*[data_url(picture((2, 2)))] * 51)), 413)
    assert error["param"] == "messages"


@pytest.mark.parametrize(
    ("header", "value"), [("content_type", "multipart/form-data; boundary=x"), ("content_encoding", "gzip")]
)
def test_forms_and_packed_bodies_are_415(served: Served, header: str, value: str) -> None:
    refused(served.post(b"{}", **{header: value}), 415)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer null"},
        {"authorization": "Bearer undefined"},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer sk-wrong"},
        {"authorization": "Bearer sk-tw-" + "A" * 43},
        {"x-api-key": "sk-wrong"},
    ],
)
def test_caller_without_a_key_of_ours_is_401(served: Served, header: dict[str, str]) -> None:
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        response = client.post("/v1/chat/completions", json={"model": "m", "messages": HI}, headers=header)
        error = refused(response, 401)
        assert error["code"] == "invalid_api_key"
        presented = " ".join(header.values()).partition("Bearer ")[2]
        assert not presented or presented not in error["message"]
        assert client.get("/v1/models", headers=header).status_code == 401


def test_key_in_the_address_is_not_read(served: Served) -> None:
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        path = f"/v1/chat/completions?api_key={served.key}"
        refused(client.post(path, json={"model": "m", "messages": HI}), 401)


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}"])
def test_scheme_is_read_in_any_case(served: Served, form: str) -> None:
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        header = {"authorization": form.format(served.key)}
        assert client.get("/v1/models", headers=header).status_code == 200


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_key_is_read_from_the_other_headers_too(served: Served, name: str) -> None:
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        assert client.get("/v1/models", headers={name: served.key}).status_code == 200
        both = {name: served.key, "authorization": f"Bearer {served.key}"}
        assert client.get("/v1/models", headers=both).status_code == 200


@pytest.mark.parametrize(
    ("fault", "answered"),
    [
        ((401, "invalid_api_key"), (502, "backend_misconfigured")),
        ((403, "access_denied"), (502, "backend_misconfigured")),
        ((404, "model_not_found"), (502, "backend_misconfigured")),
        ((407, None), (502, "backend_misconfigured")),
        ((410, None), (502, "backend_misconfigured")),
        ((421, None), (502, "backend_misconfigured")),
        ((409, None), (503, "backend_unavailable")),
        ((425, None), (503, "backend_unavailable")),
        ((413, None), (400, "backend_refused")),
        ((422, None), (400, "backend_refused")),
        ((429, "rate_limit_exceeded"), (429, "rate_limit_exceeded")),
        ((500, None), (503, "backend_unavailable")),
        ((400, "context_length_exceeded"), (400, "context_length_exceeded")),
        ((400, "content_filter"), (400, "content_filter")),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_backend_faults_get_their_status(
    served: Served, upstream: Upstream, fault: tuple[int, str | None], answered: tuple[int, str], stream: bool
) -> None:
    fault_of_theirs = openai.error(fault[0], code=fault[1], message="vendor secret words")
    upstream.answer(fault_of_theirs, fault_of_theirs)
    response = served.chat(stream=stream)
    assert refused(response, answered[0])["code"] == answered[1]
    assert "vendor secret words" not in response.text


def test_too_long_a_prompt_is_told_in_words_libraries_look_for(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(400, code="context_length_exceeded"))
    message = refused(served.chat(), 400)["message"].lower()
    assert "this model's maximum context length is" in message  # LiteLLM, LangChain for JavaScript
    assert "prompt is too long" in message  # LangChain for Python


def test_busy_backend_says_when_to_come_again(served: Served, upstream: Upstream) -> None:
    upstream.answer(
        openai.error(429, headers={"retry-after": "9"}), openai.error(429, headers={"retry-after": "86400"})
    )
    first, second = served.chat().headers, served.chat().headers
    assert (first["retry-after"], first["retry-after-ms"]) == ("9", "9000")
    assert int(second["retry-after"]) <= 60


def test_hopeless_faults_tell_sdks_not_to_retry(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.error(401))
    assert served.chat().headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [True, False])
def test_backend_out_of_reach_is_503(served: Served, stream: bool) -> None:
    error = refused(served.chat("dead", stream=stream), 503)
    assert "127.0.0.1" not in json.dumps(error)


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (openai.Reply(200, {"content-type": "text/html"}, [b"<!doctype html><title>login</title>"], "length"), 2),
        (openai.Reply(200, {}, [b""], "length"), 2),
        (openai.Reply(200, {}, [b'{"choices":'], "length"), 2),
        (openai.Reply(307, {"location": "http://127.0.0.1:1/"}, [b""], "length"), 1),
        (openai.Reply(200, {"content-encoding": "gzip"}, [b"\x1f\x8b\x08"], "length"), 1),
        (openai.reply({"object": "chat.completion", "choices": []}), 2),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_no_answer_is_502(
    served: Served, upstream: Upstream, reply: openai.Reply, asked: int, stream: bool
) -> None:
    upstream.answer(reply, reply)
    refused(served.chat(stream=stream), 502)
    assert len(upstream.requests) == asked
