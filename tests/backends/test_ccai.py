"""What no exchange on file says of CCAI: prompts, addresses, shapes of credentials, and nonsense of every kind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.backends.base import Finding, Translator
from app.backends.ccai_encode import prompt_of
from app.backends.registry import spec_of
from app.core.errors import BackendBusy, BackendError, BackendProtocolError, InvalidRequest
from app.core.events import Event, Finish, TextDelta, collect
from app.core.types import Frame, HttpCall
from tests.backends.exchanges import CONTEXT, chat_request
from tests.fakes import ccai

SPEC = spec_of("ccai")
SECTION = {
    "access_key_id": "LTAI5tFakeAccessKeyId0000",
    "access_key_secret": "FakeAccessKeySecret0000000000",
    "workspace_id": "llm-ik1234567890RVYCKzt",
    "app_id": "a070a49c681f4a95a0f0123456789c35",
}


def asking(*, stream: bool = True, **section: Any) -> tuple[Translator, HttpCall]:
    """A translator that has asked, and what it asked."""
    made = SPEC.translator("b", SPEC.options.model_validate({**SECTION, **section}), "m")
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    call = made.call(chat_request(asked), CONTEXT)
    assert isinstance(call, HttpCall)
    return made, call


def read(frames: Iterable[bytes], *, stream: bool = True) -> tuple[list[Event], BackendError | None]:
    made, _ = asking(stream=stream)
    events: list[Event] = []
    try:
        for frame in frames:
            events.extend(made.receive(Frame(frame)))
        events.extend(made.receive_eof())
    except BackendError as error:
        return events, error
    return events, None


def said(text: str, finish: str | None = None) -> bytes:
    return json.dumps({"success": True, "text": text, "finishReason": finish}).encode()


# ----------------------------------------------------------------------------------------------------------- prompts


def prompt(*turns: tuple[str, str]) -> str:
    messages = [{"role": role, "content": text} for role, text in turns]
    return prompt_of(chat_request({"model": "m", "messages": messages}).messages)


PROMPTS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "a lone question goes as it is": ([("user", " What is it?\n")], " What is it?\n"),
    "questions in a row are one": ([("user", "What is it?"), ("user", "How old?")], "What is it?\nHow old?"),
    "nothing said": ([], "请描述图片的内容。"),
    "blanks are nothing said": ([("user", "  ")], "请描述图片的内容。"),
    "rules in English, and no question": ([("system", "Be brief.")], "Be brief.\n\nDescribe what the pictures show."),
    "rules in Chinese, and a question in English": ([("system", "简短。"), ("user", "Why?")], "简短。\n\nWhy?"),
    "labels follow the question": (
        [("user", "这是什么？"), ("assistant", "花瓶。"), ("user", "How old?")],
        "Conversation so far:\nUser: 这是什么？\nAssistant: 花瓶。\n\nQuestion: How old?",
    ),
    "an answer comes last": (
        [("user", "What is it?"), ("assistant", "A vase.")],
        "Conversation so far:\nUser: What is it?\nAssistant: A vase.\n\nQuestion: Describe what the pictures show.",
    ),
    "a tool's result is the user's to tell": (
        [("assistant", "Let me look."), ("tool", "12:00"), ("user", "Well?")],
        "Conversation so far:\nAssistant: Let me look.\n\nQuestion: 12:00\nWell?",
    ),
}


@pytest.mark.parametrize(("turns", "expected"), PROMPTS.values(), ids=PROMPTS)
def test_a_conversation_becomes_one_prompt(turns: list[tuple[str, str]], expected: str) -> None:
    assert prompt(*turns) == expected


@pytest.mark.parametrize("value", ["34", 34, [34, "35"], [True], [1.0], [2**63], None, {}])
def test_templates_that_are_no_integers_are_the_callers_to_fix(value: Any) -> None:
    made = SPEC.translator("b", SPEC.options.model_validate(SECTION), "m")
    asked = {"model": "m", "messages": [], "extra": {"template_ids": value}}
    with pytest.raises(InvalidRequest) as caught:
        made.call(chat_request(asked), CONTEXT)
    assert caught.value.param == "template_ids"
    assert caught.value.said_in("zh") != str(caught.value)


def test_a_picture_that_was_not_published_is_our_mistake() -> None:
    made = SPEC.translator("b", SPEC.options.model_validate(SECTION), "m")
    asked = {"model": "m", "messages": [{"role": "user", "content": [{"picture": "QQ=="}]}]}
    with pytest.raises(TypeError, match="published"):
        made.call(chat_request(asked), CONTEXT)


# ----------------------------------------------------------------------------------------------------------- section


@pytest.mark.parametrize(
    ("base_url", "host", "start"),
    [
        ("https://vendor.test", "vendor.test", "https://vendor.test"),
        ("https://Vendor.test:443/", "vendor.test", "https://Vendor.test:443"),
        ("https://vendor.test:80", "vendor.test:80", "https://vendor.test:80"),
        ("http://vendor.test:80", "vendor.test", "http://vendor.test:80"),
        ("http://127.0.0.1:8080/a/b%20c/", "127.0.0.1:8080", "http://127.0.0.1:8080/a/b%20c"),
        ("http://[::1]:8080", "[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_what_is_signed_is_what_goes_out(base_url: str, host: str, start: str) -> None:
    _, call = asking(base_url=base_url)
    assert call.headers["host"] == host
    tail = "/llm-ik1234567890RVYCKzt/ccai/app/a070a49c681f4a95a0f0123456789c35/generalanalyzeImage"
    assert call.url == start + tail
    assert [*SPEC.addresses(SPEC.options.model_validate({**SECTION, "base_url": base_url}), "m")] == [call.url]


NO_ADDRESSES = (
    "vendor.test ftp://vendor.test https:// https://u:p@vendor.test https://vendor.test?a=1 https://vendor.test/#a "
    "https://例子.cn https://vendor.test/例 https://vendor.test:99999 https://vendor.test:x https://[::1 https://a:0"
)


@pytest.mark.parametrize("base_url", [*NO_ADDRESSES.split(), "https://a b", "https://vendor.test/a b"])
def test_an_address_that_cannot_be_signed_is_told_at_start(base_url: str) -> None:
    with pytest.raises(ValidationError, match="an address as https://host"):
        SPEC.options.model_validate({**SECTION, "base_url": base_url})


def test_no_secret_is_printed() -> None:
    options = SPEC.options.model_validate({**SECTION, "security_token": "FakeStsToken"})
    _, call = asking(security_token="FakeStsToken")
    for shown in (repr(options), repr(call), str(options)):
        assert "FakeAccessKeySecret" not in shown
        assert "FakeStsToken" not in shown
    assert call.headers["x-acs-security-token"] == "FakeStsToken"


def test_it_takes_addresses_of_pictures_and_needs_one() -> None:
    able = SPEC.capabilities(SPEC.options.model_validate(SECTION), "m")
    assert (able.image_input, able.needs_image, able.streaming, able.system_role) == ("url", True, True, True)
    assert (able.max_images, able.knobs, able.extra) == (10, frozenset(), {"template_ids"})
    assert (able.tools, able.json_object, able.json_schema) == (False, False, False)


def test_only_streams_repeat_themselves() -> None:
    assert [asking(stream=stream)[1].cumulative for stream in (True, False)] == [True, False]


def findings(**section: Any) -> list[Finding]:
    return [*SPEC.inspect(SPEC.options.model_validate({**SECTION, **section}), "m")]


def test_a_sound_section_is_found_sound() -> None:
    assert [(found.check, found.ok) for found in findings()] == [("credentials", True), ("model", True)]
    temporary = findings(access_key_id="STS.NTFake0000", security_token="FakeStsToken")
    assert all(found.ok for found in temporary)


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"access_key_id": "AKIA5tFakeAccessKeyId"}, "access_key_id"),
        ({"access_key_id": "LTAI 5tFakeAccessKeyId"}, "access_key_id"),
        ({"access_key_id": "STS.NTFake0000"}, "security_token"),
        ({"security_token": "FakeStsToken"}, "security_token"),
        ({"workspace_id": "ik1234567890RVYCKzt"}, "workspace_id"),
        ({"app_id": "a070a49c"}, "app_id"),
        ({"app_id": "A070A49C681F4A95A0F0123456789C35"}, "app_id"),
    ],
)
def test_what_looks_wrong_is_named_and_never_repeated(section: dict[str, str], named: str) -> None:
    wrong = [found for found in findings(**section) if not found.ok]
    assert [found.check for found in wrong] == ["credentials"]
    for words in (wrong[0].english, wrong[0].chinese):
        assert named in words
        assert not any(value in words for value in section.values())


# ----------------------------------------------------------------------------------------------------------- answers


def test_frames_after_the_end_are_ignored() -> None:
    whole = json.dumps({"text": "a", "finishReason": "stop", "inputTokens": 1, "outputTokens": 1}).encode()
    events, error = read([whole, said("b", "stop"), b"{"])
    assert error is None
    assert collect(events).text == "a"


def test_text_without_end_is_left() -> None:
    piece = "字" * 300_000
    events, error = read(said(f"{number}{piece}") for number in range(100))
    assert isinstance(error, BackendProtocolError)
    assert not error.retryable
    assert len(events) < 5


def test_a_long_answer_is_told_once() -> None:
    words = [f"第{number}句。" for number in range(2000)]
    frames = [said("".join(words[: number + 1])) for number in range(len(words))]
    events, error = read([*frames, said("".join(words), "stop")])
    assert error is None
    assert [event.text for event in events if isinstance(event, TextDelta)] == words


@pytest.mark.parametrize(
    "nested", [b"[" * 100_000, b'{"text":' * 50_000, b'{"success":false,"errorInfo":' + b"[" * 9_999]
)
def test_deep_nesting_is_no_answer(nested: bytes) -> None:
    _, error = read([nested])
    assert isinstance(error, BackendProtocolError)
    assert isinstance(asking()[0].refused(400, {}, nested), BackendError)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
codes = st.sampled_from([*ccai.STATUSES, "", "New", 429])
MEMBERS = {
    "requestId": st.text(max_size=4),
    "success": st.booleans(),
    "text": st.text(max_size=6),
    "finishReason": st.sampled_from(["", "null", "stop", "length", "new"]),
    "inputTokens": st.integers(-1, 99),
    "outputTokens": st.integers(-1, 99),
    "errorCode": codes,
    "errorInfo": st.text(max_size=6),
    "Code": codes,
    "Message": st.text(max_size=6),
}
replies = st.fixed_dictionaries(
    {}, optional={name: st.one_of(good, good, st.none(), anything) for name, good in MEMBERS.items()}
)
payloads = st.one_of(
    replies.map(lambda reply: json.dumps(reply).encode()),
    replies.map(lambda reply: json.dumps(reply).encode()),
    anything.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=20),
    st.just(b'{"success":false,"x":"\xff"}'),
    st.just(b"[DONE]"),
)


@given(frames=st.lists(payloads, max_size=6), stream=st.booleans())
def test_any_frames_end_in_one_terminal_or_one_error(frames: list[bytes], stream: bool) -> None:
    events, error = read(frames, stream=stream)
    terminals = [event for event in events if isinstance(event, Finish)]
    assert len(terminals) + (error is not None) == 1
    if error is None:
        collect(events)


@given(
    status=st.integers(100, 599),
    body=payloads | payloads.map(lambda body: b"event:error\ndata:" + body + b"\n\n"),
    wait=st.text(max_size=5) | st.integers(0, 10**12).map(str),
)
def test_any_refusal_becomes_a_backend_error(status: int, body: bytes, wait: str) -> None:
    error = asking()[0].refused(status, {"x-acs-retry-after": wait}, body)
    assert isinstance(error, BackendError)
    assert error.backend_code
    assert 0 < len(error.detail) <= 500
    assert (getattr(error, "retry_after_s", None) or 0) >= 0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"x-acs-retry-after": "1500"}, 1.5),
        ({"x-acs-retry-after": "1500", "retry-after": "7"}, 1.5),
        ({"x-acs-retry-after": "0", "retry-after": "7"}, 7.0),
        ({"x-acs-retry-after": "-5"}, None),
        ({"x-acs-retry-after": "²"}, None),
        ({}, None),
    ],
)
def test_the_platforms_wait_counts_milliseconds(headers: dict[str, str], wait_s: float | None) -> None:
    error = asking()[0].refused(400, headers, ccai.error("CCAI.Throttling.Qpm").wire)
    assert isinstance(error, BackendBusy)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("secret", ["FakeAccessKeySecret0000000000", "FakeStsToken/000=="])
def test_no_log_holds_a_secret_that_the_vendor_repeats(secret: str) -> None:
    made, _ = asking(security_token="FakeStsToken/000==")
    for body in (ccai.error("CCAI.InternalError", "x" * 390 + secret).wire, f"<html>{secret}".encode()):
        error = made.refused(500, {}, body)
        assert secret not in error.detail
        assert secret[:10] not in error.detail


@pytest.mark.parametrize("code", ["CCAI.Throttling", "CCAI.Throttling.Tpm", "App.Throttling.Daily", "Throttling.Api"])
def test_throttling_is_throttling_wherever_it_stands_in_a_code(code: str) -> None:
    error = asking()[0].refused(400, {}, ccai.error(code, status=400).wire)
    assert type(error) is BackendBusy
    assert error.backend_code == code
