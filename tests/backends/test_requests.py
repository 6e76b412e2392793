"""What goes out, where an exchange on file would say it less plainly."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from app.backends.registry import spec_of
from app.core.errors import UnsupportedFeature
from app.core.types import HttpCall
from tests.backends.exchanges import CONTEXT, chat_request

TOOLS = [{"type": "function", "function": {"name": "zoom"}}]


def asked(section: dict[str, Any], **request: Any) -> HttpCall:
    spec = spec_of("openai")
    translator = spec.translator(
        "b", spec.options.model_validate({"base_url": "http://vendor.test/v1", **section}), "m"
    )
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **request}
    call = translator.call(chat_request(body), CONTEXT)
    assert isinstance(call, HttpCall)
    return call


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "zoom"}}])
def test_a_tool_that_cannot_be_forced_is_refused_before_money_is_spent(choice: Any) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        asked({"provider": "zhipu"}, tools=TOOLS, tool_choice=choice)
    assert caught.value.param == "tool_choice"


def test_an_offered_tool_goes_out_without_a_choice() -> None:
    body = json.loads(asked({"provider": "zhipu"}, tools=TOOLS).body)
    assert body["tools"] == TOOLS
    assert "tool_choice" not in body


def test_a_single_stop_word_may_have_to_be_a_string() -> None:
    body = json.loads(asked({"stop_as_array": False}, stop=["\n"]).body)
    assert body["stop"] == "\n"


def test_stop_words_that_are_all_too_long_are_left_out() -> None:
    body = json.loads(asked({"stop_max_chars": 2}, stop=["abc"]).body)
    assert "stop" not in body


def test_the_bound_on_the_answer_goes_by_the_name_the_service_knows() -> None:
    body = json.loads(asked({"max_tokens_field": "max_completion_tokens"}, max_output_tokens=9).body)
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body


def test_a_service_that_cannot_stream_is_asked_for_the_whole() -> None:
    call = asked({"streaming": False}, stream=True)
    assert call.framing == "json"
    assert json.loads(call.body)["stream"] is False


def test_headers_of_the_section_are_sent_and_keys_are_not_printed() -> None:
    call = asked({"api_key": "sk-1", "headers": {"x-team": "vision"}})
    assert call.headers["x-team"] == "vision"
    assert call.headers["authorization"] == "Bearer sk-1"
    assert "sk-1" not in repr(call)


def test_a_local_server_gets_no_authorization() -> None:
    assert "authorization" not in asked({}).headers


def test_a_caller_cannot_overwrite_what_is_ours_through_extra() -> None:
    body = json.loads(
        asked({"extra": ["model", "stream", "top_k"]}, extra={"model": "x", "stream": 1, "top_k": 3}).body
    )
    assert (body["model"], body["stream"], body["top_k"]) == ("m", False, 3)


def test_a_picture_of_megabytes_goes_out_byte_for_byte() -> None:
    data = bytes(range(256)) * 8192
    part = {"picture": base64.b64encode(data).decode(), "media_type": "image/png"}
    call = asked({}, messages=[{"role": "user", "content": [part]}])
    url = json.loads(call.body)["messages"][0]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    assert base64.b64decode(url.partition(",")[2], validate=True) == data


@pytest.mark.parametrize(("key", "ok"), [("bce-v3/ALTAK-abc/def", True), ("24.0123456789abcdef", False)])
def test_shape_of_qianfans_key_is_looked_at_without_repeating_it(key: str, ok: bool) -> None:
    spec = spec_of("qianfan")
    (finding,) = spec.inspect(spec.options.model_validate({"api_key": key}), "deepseek-vl2")
    assert finding.ok is ok
    assert key not in finding.english + finding.chinese
