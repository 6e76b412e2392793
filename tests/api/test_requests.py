"""What real clients send, and what must come of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.api.pictures import data_url, picture, question
from tests.fakes import openai, qianfan
from tests.fakes.upstream import Upstream
from tests.support.server import Served

ONE_PIXEL = picture((1, 1))
TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}


def sent(upstream: Upstream) -> Any:
    """The body the backend got last."""
    return upstream.requests[-1].json


def test_text_only_question_to_a_vision_model_is_answered(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("hello"))
    messages = [{"role": "system", "content": "test"}, {"role": "user", "content": "hi"}]
    assert served.chat("m-vision", messages=messages).json()["choices"][0]["message"]["content"] == "hello"


def test_one_pixel_picture_is_enlarged_not_refused(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("red"))
    assert served.chat(messages=question(data_url(ONE_PIXEL))).status_code == 200
    assert upstream.requests[0].pictures[0] != ONE_PIXEL


def test_probing_tools_are_dropped_with_a_notice_where_the_model_has_none(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("plain"))
    response = served.chat("local-ocr-vision", tools=[TOOL], tool_choice="auto", parallel_tool_calls=True)
    assert response.status_code == 200
    assert "tools dropped" in response.headers["x-tuwen-notice"]


def test_demanded_tool_is_refused_where_the_model_has_none(served: Served, upstream: Upstream) -> None:
    response = served.chat("local-ocr-vision", tools=[TOOL], tool_choice="required")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tool_choice"


def test_history_with_tool_calls_and_results_is_understood(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    call = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {"role": "function", "name": "search", "content": "found again"},
        {"role": "user", "content": "so?"},
    ]
    assert served.chat(messages=messages, tools=[TOOL]).status_code == 200
    assert [message["role"] for message in sent(upstream)["messages"]] == ["user", "assistant", "tool", "tool", "user"]


def test_unknown_fields_and_nulls_are_ignored_and_never_forwarded(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    response = served.chat(
        api_base="http://127.0.0.1:1", thinking={"type": "enabled"}, metadata={"a": 1}, store=True, verbosity="low",
        nonsense=1, temperature=None, stop=None, tools=None, user=None, stream=None, max_tokens=None, n=None,
    )  # fmt: skip
    assert response.status_code == 200
    assert set(sent(upstream)) <= {"model", "messages", "stream"}


def test_what_openai_takes_reaches_the_backend_as_it_was_meant(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"], "default": None}}}
    fields = {
        "seed": 2**63 - 1,
        "logit_bias": {"50256": -100},
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": TOOL["function"]["name"]}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": None}},
    }
    assert served.chat(**fields).status_code == 200
    fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert {name: sent(upstream)[name] for name in fields} == fields


def test_cache_control_on_parts_is_ignored(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    parts = [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]
    assert served.chat(messages=[{"role": "user", "content": parts}]).status_code == 200
    assert "cache_control" not in json.dumps(sent(upstream))


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_wish_beyond_the_models_bound_is_cut_to_it(served: Served, upstream: Upstream, field: str) -> None:
    upstream.answer(openai.answer("ok"))
    assert served.chat(**{field: 100_000}).status_code == 200
    assert sent(upstream)["max_tokens"] == 4096


def test_wish_beyond_the_room_left_in_the_context_is_cut_to_it(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    served.chat("narrow", max_tokens=4000, messages=question(data_url(picture((1000, 1000), "JPEG"))))
    served.chat("narrow", max_tokens=4000, messages=[{"role": "user", "content": "长" * 9000}])
    assert 256 < upstream.requests[0].json["max_tokens"] < 4000
    assert upstream.requests[1].json["max_tokens"] == 256


def test_no_wish_leaves_the_length_to_the_model(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    served.chat()
    assert "max_tokens" not in sent(upstream)


def test_order_and_number_of_parts_are_free(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    url = {"type": "image_url", "image_url": {"url": data_url(picture()), "detail": "high"}}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "be brief"}]},
        {"role": "user", "content": [url, {"type": "text", "text": "a"}, url, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
        {"role": "user", "content": [url], "name": "ann"},
    ]
    assert served.chat(messages=messages).status_code == 200
    kinds = [part["type"] for part in sent(upstream)["messages"][1]["content"]]
    assert kinds == ["image_url", "text", "image_url", "text"]
    assert sent(upstream)["messages"][0]["role"] == "system"
    assert len(upstream.requests[0].pictures) == 3


def test_empty_system_message_is_left_out(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    served.chat(messages=[{"role": "system", "content": ""}, {"role": "user", "content": "hi"}])
    assert [message["role"] for message in sent(upstream)["messages"]] == ["user"]


@pytest.mark.parametrize(
    "label",
    [
        "image/*",
        "image/jpeg",
        "image/jpg",
        "IMAGE/PNG",
        "application/octet-stream",
        "",
        "image/png;charset=utf-8",
        "image/webp;name=a.png",
    ],
)
def test_content_decides_not_the_label(served: Served, upstream: Upstream, label: str) -> None:
    upstream.answer(openai.answer("ok"))
    assert served.chat(messages=question(data_url(picture(), label))).status_code == 200
    assert sent(upstream)["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_other_labels_are_refused(served: Served) -> None:
    error = served.chat(messages=question(data_url(picture(), "text/html"))).json()["error"]
    assert error["param"] == "messages[0].content[0].image_url.url"


def test_line_breaks_in_base64_are_taken(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    encoded = base64.encodebytes(picture((80, 80))).decode()
    assert served.chat(messages=question(f"data:image/png;base64,{encoded}")).status_code == 200


def test_bare_base64_and_bare_string_are_taken(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    encoded = base64.b64encode(picture()).decode()
    assert served.chat(messages=question(encoded)).status_code == 200
    part = {"type": "image_url", "image_url": data_url(picture())}
    assert served.chat(messages=[{"role": "user", "content": [part]}]).status_code == 200
    assert len(upstream.requests[1].pictures) == 1


@pytest.mark.parametrize(
    ("detail", "passed"), [("low", "low"), ("high", "high"), ("original", "high"), ("auto", None), (None, None)]
)
def test_every_detail_is_taken(served: Served, upstream: Upstream, detail: str | None, passed: str | None) -> None:
    upstream.answer(openai.answer("ok"))
    part = {"type": "image_url", "image_url": {"url": data_url(picture()), "detail": detail}}
    assert served.chat(messages=[{"role": "user", "content": [part]}]).status_code == 200
    [sent] = upstream.requests[0].json["messages"][0]["content"]
    assert sent["image_url"].get("detail") == passed


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:9/a.png", "http://10.0.0.1/a.png", "file:///etc/passwd", "ftp://example.com/a.png", "a.png"],
)
def test_address_that_is_not_public_is_refused(served: Served, upstream: Upstream, url: str) -> None:
    response = served.chat(messages=question(url))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].content[0].image_url.url"
    assert upstream.requests == []


def test_pictures_of_older_turns_give_way_to_the_newest(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("blue"))
    red, blue = picture((80, 60), colour="red"), picture((80, 60), colour="blue")
    answered = {"role": "assistant", "content": "red"}
    response = served.chat("one-picture", messages=[*question(data_url(red)), answered, *question(data_url(blue))])
    assert response.headers["x-tuwen-notice"] == "1 picture(s) of older turns dropped"
    assert upstream.requests[0].pictures == [blue]


def test_more_pictures_than_the_model_takes_in_one_message_are_refused(served: Served, upstream: Upstream) -> None:
    response = served.chat("one-picture", messages=question(data_url(picture()), data_url(picture())))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].content[1].image_url.url"
    assert upstream.requests == []


def test_chunked_bodies_and_odd_content_types_are_read(served: Served, upstream: Upstream) -> None:
    upstream.answer(*[openai.answer("ok") for _ in range(4)])
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    for content_type in ("application/json; charset=UTF-8", "text/plain", "application/x-www-form-urlencoded"):
        assert served.post(body, content_type=content_type).status_code == 200
    chunked = served.client.post("/v1/chat/completions", content=iter([body[:10], body[10:]]))
    assert chunked.status_code == 200


def test_accept_header_changes_nothing(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.stream("ok"))
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    whole = served.client.post("/v1/chat/completions", json=body, headers={"accept": "text/html, image/gif"})
    streamed = served.client.post(
        "/v1/chat/completions", json={**body, "stream": True}, headers={"accept": "application/json"}
    )
    assert whole.headers["content-type"] == "application/json"
    assert streamed.headers["content-type"].startswith("text/event-stream")


def test_offer_of_http_2_is_ignored_and_the_body_read(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    body = {"model": "m", "messages": [{"role": "user", "content": "say h2c"}]}
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAEAAEAAAAIAAAAB"}
    for _ in range(2):
        assert served.client.post("/v1/chat/completions", json=body, headers=offer).status_code == 200


@pytest.mark.parametrize("model", ["text-only", "said-blind"])
def test_picture_to_a_model_without_sight_is_refused_in_words_clients_know(
    served: Served, upstream: Upstream, model: str
) -> None:
    response = served.chat(model, messages=question(data_url(picture())))
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["message"] == "Invalid content type. image_url is only supported by certain models."
    assert upstream.requests == []


def test_knobs_a_backend_lacks_are_dropped_with_a_notice(served: Served, upstream: Upstream) -> None:
    upstream.answer(qianfan.answer("ok"))
    response = served.chat("qf-vision", logit_bias={"1": 5}, logprobs=True, user="u")
    assert response.status_code == 200
    assert "logit_bias dropped" in response.headers["x-tuwen-notice"]
    assert "logit_bias" not in sent(upstream)


def test_qianfan_answers_in_openais_words(served: Served, upstream: Upstream) -> None:
    upstream.answer(qianfan.stream("图"), qianfan.answer("图"))
    assert '"finish_reason":"stop"' in served.chat("qf-vision", stream=True).text
    assert served.chat("qf-vision").json()["choices"][0]["finish_reason"] == "stop"


def test_same_picture_in_the_next_turn_is_sent_again_alike(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    messages = question(data_url(picture((1, 1), colour="green")))
    served.chat(messages=messages)
    served.chat(messages=[*messages, {"role": "assistant", "content": "green"}, {"role": "user", "content": "sure?"}])
    assert upstream.requests[0].pictures == upstream.requests[1].pictures
