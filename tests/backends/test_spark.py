"""What no exchange on file says of Spark: sections, capabilities, shapes of credentials, large pictures, nonsense."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.backends.base import Finding, Translator
from app.backends.registry import spec_of
from app.backends.spark_models import MODELS
from app.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    InvalidRequest,
    UnsupportedFeature,
)
from app.core.events import Event, Finish, ReasoningDelta, TextDelta, collect
from app.core.types import Frame, Image, ImagePart, Message, TextPart, WsCall
from app.media.geometry import place
from tests.backends.exchanges import CONTEXT, chat_request
from tests.backends.test_grammar import nearly, read
from tests.fakes import spark
from tests.fakes.spark_request import SERVICES

SPEC = spec_of("spark")
SECTION = {
    "app_id": "a1b2c3d4",
    "api_key": "0123456789abcdef0123456789abcdef",
    "api_secret": "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk=",
}
TOOL = {"type": "function", "function": {"name": "now"}}


def options(**section: Any) -> Any:
    return SPEC.options.model_validate({**SECTION, **section})


def asking(model: str = "lite", *, section: dict[str, Any] | None = None, **fields: Any) -> tuple[Translator, WsCall]:
    """A translator that has asked, and what it asked."""
    made = SPEC.translator("b", options(**(section or {})), model)
    request = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
    call = made.call(chat_request(request), CONTEXT)
    assert isinstance(call, WsCall)
    return made, call


def findings(model: str = "imagev3", **section: Any) -> list[Finding]:
    return list(SPEC.inspect(options(**section), model))


# ---------------------------------------------------------------------------------------------------------- sections


@pytest.mark.parametrize(
    ("section", "at"),
    [
        ({"app_id": None}, "app_id"),
        ({"base_url": "https://spark-api.xf-yun.com/v2.1/image"}, "base_url"),
        ({"base_url": "wss:///v2.1/image"}, "base_url"),
        ({"base_url": "wss://host/v2.1/image?a=b"}, "base_url"),
        ({"base_url": "wss://host/v2.1/image#a"}, "base_url"),
        ({"base_url": "wss://user@host/v2.1/image"}, "base_url"),
        ({"base_url": "wss://host:99999/v2.1/image"}, "base_url"),
        ({"base_url": "wss://host:0/v2.1/image"}, "base_url"),
        ({"base_url": "wss://主机/v2.1/image"}, "base_url"),
        ({"text_base_url": "spark-api.xf-yun.com"}, "text_base_url"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 7}, "top_k"),
        ({"model": "imagev3"}, "model"),
    ],
)
def test_a_mistake_in_a_section_is_found_where_it_stands(section: dict[str, Any], at: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**section)
    assert [error["loc"][0] for error in caught.value.errors()] == [at]


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("wss://host", "wss://host/v2.1/image"),
        ("ws://127.0.0.1:8765/", "ws://127.0.0.1:8765/v2.1/image"),
        ("wss://host/v2.1/image/", "wss://host/v2.1/image"),
        ("wss://proxy/spark/pictures", "wss://proxy/spark/pictures"),
    ],
)
def test_an_address_without_a_path_is_given_the_picture_services(base_url: str, address: str) -> None:
    assert list(SPEC.addresses(options(base_url=base_url), "imagev3")) == [address]


def test_a_section_of_credentials_alone_asks_iflytek() -> None:
    addresses = {name: next(iter(SPEC.addresses(options(), name))) for name in ("imagev3", "general", "4.0Ultra")}
    assert addresses == {
        "imagev3": "wss://spark-api.cn-huabei-1.xf-yun.com/v2.1/image",
        "general": "wss://spark-api.cn-huabei-1.xf-yun.com/v2.1/image",
        "4.0Ultra": "wss://spark-api.xf-yun.com/v4.0/chat",
    }


def test_keys_do_not_show_in_a_printed_section() -> None:
    printed = repr(options())
    assert SECTION["api_key"] not in printed
    assert SECTION["api_secret"] not in printed


# ------------------------------------------------------------------------------------------------------ capabilities


@pytest.mark.parametrize("domain", ["imagev3", "general", "xqwen2d5s32bvl"])
def test_picture_models_take_one_picture_and_need_it(domain: str) -> None:
    able = SPEC.capabilities(options(), domain)
    assert (able.streaming, able.needs_image, able.max_images, able.image_input) == (True, True, 1, "bytes")
    assert (able.system_role, able.tools, able.json_schema, able.json_object) == (False, False, False, False)
    assert (able.conversation_tokens, able.default_output_tokens, able.max_output_tokens) == (8192, 2048, 8192)
    assert (able.knobs, able.extra) == ({"temperature"}, {"top_k"})
    rules = able.image_rules
    assert (rules.formats, rules.max_image_bytes, rules.max_side_px) == (("jpeg", "png"), 4 * 1024 * 1024, 12_800)


@pytest.mark.parametrize(
    ("domain", "context", "output", "system"),
    [
        ("lite", 8192, 4096, False),
        ("generalv2", 8192, 8192, False),
        ("generalv3", 8192, 8192, False),
        ("pro-128k", 131_072, 4096, False),
        ("generalv3.5", 8192, 8192, True),
        ("max-32k", 32_768, 8192, True),
        ("4.0Ultra", 8192, 8192, True),
        ("kjwx", 8192, 8192, False),
        ("spark-x", None, 8192, False),
    ],
)
def test_text_models_see_nothing_and_differ_in_length(
    domain: str, context: int | None, output: int, *, system: bool
) -> None:
    able = SPEC.capabilities(options(), domain)
    assert (able.max_images, able.needs_image) == (0, False)
    assert (able.conversation_tokens, able.max_output_tokens) == (context, output)
    assert (able.system_role, able.tools) == (system, system)
    assert able.reasoning == (domain == "spark-x")


@pytest.mark.parametrize("path", sorted(SERVICES))
def test_the_scripted_service_and_we_agree_on_every_address(path: str) -> None:
    """It was read from the same pages by somebody else."""
    service = SERVICES[path]
    ours = [model for model in MODELS.values() if model.path == path]
    assert {model.domain for model in ours} <= service.domains
    for model in ours:
        assert (model.sees, model.context_tokens) == (service.sees, service.tokens)
        assert model.max_output_tokens == service.max_output_tokens


@given(width_px=st.integers(1, 30_000), height_px=st.integers(1, 30_000))
def test_pictures_of_any_size_are_brought_within_the_bounds(width_px: int, height_px: int) -> None:
    placed = place(width_px, height_px, SPEC.capabilities(options(), "imagev3").image_rules)
    width_px, height_px = placed.canvas_width_px, placed.canvas_height_px
    assert max(width_px, height_px) <= 12_800
    assert 50 * 50 < width_px * height_px < 6000 * 6000


# ---------------------------------------------------------------------------------------------------------- requests


def test_a_large_picture_goes_out_byte_for_byte() -> None:
    data = bytes(range(256)) * 16_384
    image = Image(data, "image/jpeg", 4000, 3000, "0" * 64)
    request = chat_request({"model": "imagev3", "messages": []})
    message = Message("user", (TextPart("what\n is it?"), ImagePart(image)))
    made = SPEC.translator("b", options(), "imagev3")
    call = made.call(type(request)("imagev3", (message,)), CONTEXT)
    assert isinstance(call, WsCall)
    picture, question = json.loads(call.messages[0])["payload"]["message"]["text"]
    assert pybase64.b64decode(picture["content"], validate=True) == data
    assert question["content"] == "what\n is it?"


def test_each_connection_has_its_own_user_and_signature() -> None:
    (_, first), (_, same) = asking(), asking()
    assert first.url == same.url
    made = SPEC.translator("b", options(), "lite")
    later = made.call(
        chat_request({"model": "lite", "messages": []}),
        type(CONTEXT)("req_2", 2, CONTEXT.now + 1, CONTEXT.deadline, "f" * 32),
    )
    assert isinstance(later, WsCall)
    assert later.url != first.url
    users = [json.loads(call.messages[0])["header"]["uid"] for call in (first, later)]
    assert users == [CONTEXT.nonce, "f" * 32]


@pytest.mark.parametrize("top_k", ["4", 4.0, True, [4]])
def test_a_top_k_that_is_no_integer_is_the_callers_to_mend(top_k: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asking(extra={"top_k": top_k})
    assert caught.value.param == "top_k"
    assert caught.value.chinese


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}])
def test_a_tool_call_that_is_demanded_is_refused(choice: Any) -> None:
    with pytest.raises(UnsupportedFeature) as caught:
        asking("generalv3.5", tools=[TOOL], tool_choice=choice)
    assert caught.value.param == "tool_choice"


def test_thousands_of_neighbours_are_joined_in_no_time() -> None:
    messages = [{"role": "user", "content": "x" * 2000} for _ in range(9000)]
    start_s = process_time()
    _, call = asking(messages=messages)
    assert process_time() - start_s < 2.0  # of the event loop's
    [text] = json.loads(call.messages[0])["payload"]["message"]["text"]
    assert len(text["content"]) == 9000 * 2001 - 1


# ------------------------------------------------------------------------------------------------------- credentials


def test_good_shapes_are_said_to_be_good() -> None:
    assert all(item.ok for item in findings())
    assert {item.check for item in findings()} == {"credentials", "model"}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"app_id": "a1b2c3d4e5"}, "app_id"),
        ({"app_id": "a1b2 3d4"}, "app_id"),
        ({"api_key": SECTION["api_secret"], "api_secret": SECTION["api_key"]}, "swapped"),
        ({"api_secret": SECTION["api_key"]}, "api_secret"),
        ({"api_key": "0123456789abcdef"}, "api_key"),
        ({"api_secret": "c2hvcnQ="}, "api_secret"),
        ({"api_secret": "a secret of more than thirty-two characters"}, "api_secret"),
    ],
)
def test_what_was_copied_wrong_is_said_in_both_languages(section: dict[str, str], says: str) -> None:
    [fault] = [item for item in findings(**section) if not item.ok]
    assert fault.check == "credentials"
    assert says in fault.english
    assert "请" in fault.chinese or "填反" in fault.chinese
    for secret in (*SECTION.values(), *section.values()):
        assert secret not in fault.english + fault.chinese


def test_a_domain_on_no_page_is_pointed_out_with_those_there_are() -> None:
    [fault] = [item for item in findings("imagev4") if not item.ok]
    assert fault.check == "model"
    assert "imagev3" in fault.english
    assert "4.0Ultra" in fault.chinese
    assert all(item.ok for item in findings("4.0ultra")), "in any case of letters"


def test_without_a_model_the_credentials_alone_are_looked_at() -> None:
    assert {item.check for item in findings("")} == {"credentials"}


# ---------------------------------------------------------------------------------------------------------- nonsense

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12_000) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["header", "payload", "choices", "text", "code", "status", "content"]), inner)
    ),
    max_leaves=8,
)


TEXTS = st.lists(
    nearly(
        content=st.text(max_size=4),
        reasoning_content=st.text(max_size=4),
        function_call=nearly(name=st.text(max_size=3), arguments=st.text(max_size=3)),
    ),
    max_size=2,
)
STATUS = st.integers(0, 2)
REPLIES = nearly(
    header=nearly(code=st.sampled_from([0, 0, 0, "0", 10012, 10014]), sid=st.text(max_size=3), status=STATUS),
    payload=nearly(
        choices=nearly(status=STATUS, text=TEXTS),
        usage=nearly(text=nearly(prompt_tokens=st.integers(-1, 99), completion_tokens=st.integers(-1, 99))),
    ),
)


@given(replies=st.lists(REPLIES, max_size=6))
def test_frames_that_are_nearly_right_obey_the_grammar(replies: list[dict[str, Any]]) -> None:
    events, error = read(asking()[0], [json.dumps(reply).encode() for reply in replies])
    finishes = [event for event in events if isinstance(event, Finish)]
    assert len(finishes) + (error is not None) == 1
    if error is None:
        assert events[-1] is finishes[0]
        answer = collect(events)
        assert bool(answer.tool_calls) == (answer.finish_reason == "tool_calls") or (
            answer.finish_reason == "content_filter"
        )
    assert all(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta))


def test_deep_nesting_is_no_answer() -> None:
    for nested in (b"[" * 100_000, b'{"header":' * 50_000, b'{"header":{"code":0},"payload":' + b"[" * 100_000):
        with pytest.raises(BackendProtocolError):
            asking()[0].receive(Frame(nested))
        assert isinstance(asking()[0].refused(401, {}, nested), BackendMisconfigured)


def test_a_secret_that_the_cut_of_the_log_would_halve_is_struck_first() -> None:
    body = b"x" * 280 + SECTION["api_key"].encode()
    assert SECTION["api_key"][:20] not in asking()[0].refused(502, {}, body).detail


def test_a_printed_call_shows_neither_the_signature_nor_the_question() -> None:
    _, call = asking()
    assert "authorization=" in call.url
    assert "authorization" not in repr(call)
    assert "app_id" not in repr(call)


@given(frames=st.lists(st.binary(max_size=20) | VALUES.map(lambda value: json.dumps(value).encode()), max_size=4))
def test_any_frames_end_in_one_finish_or_an_error(frames: list[bytes]) -> None:
    made, _ = asking()
    events: list[Event] = []
    failed: BackendError | None = None
    try:
        for frame in frames:
            events.extend(made.receive(Frame(frame)))
        events.extend(made.receive_eof())
    except BackendError as error:
        failed = error
    assert sum(isinstance(event, Finish) for event in events) + (failed is not None) == 1
    assert failed is None or (failed.backend == "b" and failed.detail)


@given(status=st.integers(400, 599), body=st.binary(max_size=40) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_refused_handshake_is_a_backends_error(status: int, body: bytes) -> None:
    error = asking()[0].refused(status, {}, body)
    assert isinstance(error, BackendError)
    assert not error.spent  # nothing was asked yet
    assert error.backend_code == str(status)
    assert error.detail.startswith(f"HTTP {status}: ")
    assert error.said_in("zh") != str(error)


def test_a_service_that_repeats_the_credentials_tells_them_to_no_log() -> None:
    made, _ = asking()
    said = " ".join(SECTION.values())
    error = made.refused(401, {}, json.dumps({"message": said}).encode())
    [frame] = spark.error(10012, said)
    with pytest.raises(BackendError) as caught:
        made.receive(Frame(str(frame).encode()))
    for found in (error, caught.value):
        assert SECTION["api_key"] not in found.detail
        assert SECTION["api_secret"] not in found.detail


def test_an_empty_secret_strikes_nothing() -> None:
    made, _ = asking(section={"api_secret": ""})
    assert "Unauthorized" in made.refused(401, {}, b'{"message":"Unauthorized"}').detail
