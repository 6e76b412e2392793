"""The plugin's translator where the recorded exchanges do not reach: sections, long questions, odd histories."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.backends.chatocr import SPEC, ChatOcrOptions, ChatOcrTranslator
from app.core.errors import BackendError, BackendProtocolError, InvalidRequest
from app.core.events import Event, Finish, OcrRegions, TextDelta
from app.core.types import ChatRequest, Frame, HttpCall, Image, ImagePart, Message, Part, TextPart
from tests.backends.exchanges import CONTEXT

APPLICATION = {"endpoint": "testxxx", "api_key": "k" * 24, "secret_key": "s" * 32}
ACCOUNT = {
    "endpoint": "testxxx",
    "access_key_id": "ALTAKfakefakefakefake01",
    "secret_access_key": "0123456789abcdef0123456789abcdef",
}
ADDRESS = "https://b.bj.bcebos.com/a.png"


def picture(**fields: Any) -> ImagePart:
    return ImagePart(
        Image(**{"data": b"p", "media_type": "image/png", "width_px": 100, "height_px": 50, "sha256": "0"} | fields)
    )


def user(text: str = "", *parts: Part) -> Message:
    return Message("user", (*parts, TextPart(text)) if text else parts)


def question(*messages: Message, **fields: Any) -> ChatRequest:
    return ChatRequest(model="uuid-chatocr", messages=messages, **fields)


def translator(**options: Any) -> ChatOcrTranslator:
    return ChatOcrTranslator("b", ChatOcrOptions(**(APPLICATION | options)), "uuid-chatocr")


def called(request: ChatRequest, **options: Any) -> HttpCall:
    return translator(**options).call(request, CONTEXT)


def sent(request: ChatRequest) -> Any:
    return json.loads(called(request).body)


def read(made: ChatOcrTranslator, *packets: Any) -> list[Event]:
    return [event for packet in packets for event in made.receive(Frame(json.dumps(packet).encode()))]


# ------------------------------------------------------------------------------------------------------------ sections


@pytest.mark.parametrize(
    "endpoint",
    ["testxxx", "testxxx/", "https://aip.baidubce.com/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/testxxx/"],
)
def test_the_endpoint_may_be_pasted_as_the_console_shows_it(endpoint: str) -> None:
    call = called(question(user("?", picture(url=ADDRESS))), endpoint=endpoint)
    assert call.url == "https://aip.baidubce.com/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/testxxx/"


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"api_key": "a"},
        {"secret_key": "a"},
        {"api_key": "a", "secret_key": ""},
        {"api_key": "a", "secret_access_key": "b"},
        {"api_key": "a", "secret_key": "b", "access_key_id": "c"},
        {"api_key": "a", "secret_key": "b", "access_key_id": "c", "secret_access_key": "d"},
    ],
)
def test_a_section_has_one_pair_of_credentials(credentials: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="one pair of credentials"):
        ChatOcrOptions.model_validate({"endpoint": "e", **credentials})


def test_pictures_lie_in_baidus_storage_unless_the_section_says_otherwise() -> None:
    bound = SPEC.capabilities(ChatOcrOptions(**APPLICATION), "m")
    assert (bound.image_input, bound.image_hosts, bound.max_images) == ("url", ("bcebos.com",), 1)
    assert bound.needs_image
    assert bound.image_rules.min_side_px == 80
    assert SPEC.capabilities(ChatOcrOptions(**APPLICATION, bos_only=False), "m").image_hosts == ()


def test_the_addresses_of_a_section_hold_no_secret() -> None:
    with_token = SPEC.addresses(ChatOcrOptions(**APPLICATION, base_url="http://h.test/"), "m")
    assert list(with_token) == [
        "http://h.test/oauth/2.0/token",
        "http://h.test/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/testxxx/",
    ]
    assert len(list(SPEC.addresses(ChatOcrOptions(**ACCOUNT), "m"))) == 1


@pytest.mark.parametrize(
    ("options", "failing"),
    [
        (APPLICATION, None),
        (ACCOUNT, None),
        (APPLICATION | {"api_key": "short"}, ("credentials", "api_key")),
        (APPLICATION | {"secret_key": "s" * 31}, ("credentials", "secret_key")),
        (ACCOUNT | {"access_key_id": "AKIA0123456789abcdef01"}, ("credentials", "access_key_id")),
        (ACCOUNT | {"secret_access_key": "XYZ" * 10 + "00"}, ("credentials", "secret_access_key")),
        (APPLICATION | {"endpoint": "two words"}, ("model", "endpoint")),
    ],
)
def test_a_look_at_a_section_finds_what_cannot_be_right(
    options: dict[str, str], failing: tuple[str, str] | None
) -> None:
    findings = list(SPEC.inspect(ChatOcrOptions.model_validate(options), "m"))
    assert [finding.check for finding in findings] == ["credentials", "model"]
    wrong = [(finding.check, finding.english.split()[0]) for finding in findings if not finding.ok]
    assert wrong == ([failing] if failing else [])
    for finding in findings:
        assert finding.chinese != finding.english
        assert not any(
            secret in finding.english + finding.chinese for secret in options.values() if secret != "testxxx"
        )


# ------------------------------------------------------------------------------------------------------------ questions


@pytest.mark.parametrize("length", [1000, 1001])
def test_a_question_over_a_thousand_characters_is_refused_before_anything_is_sent(length: int) -> None:
    request = question(user("hi"), Message("assistant", (TextPart("hi"),)), user("字" * length, picture(url=ADDRESS)))
    if length == 1000:
        assert len(sent(request)["query"]) == 1000
        return
    with pytest.raises(InvalidRequest) as caught:
        called(request)
    assert caught.value.param == "messages[2].content"
    assert "1001" in str(caught.value)
    assert "1001" in caught.value.said_in("zh")


def test_system_text_that_does_not_fit_beside_the_question_is_a_turn_of_its_own() -> None:
    body = sent(question(Message("system", (TextPart("s" * 990),)), user("q" * 50, picture(url=ADDRESS))))
    assert body["query"] == "q" * 50
    assert [turn["role"] for turn in body["history"]] == ["user", "assistant"]
    assert body["history"][0]["content"] == "s" * 990


def test_a_greeting_before_the_first_question_is_dropped_with_a_notice() -> None:
    made = translator()
    greeting = Message("assistant", (TextPart("Hello!"),))
    call = made.call(question(greeting, user("?", picture(url=ADDRESS))), CONTEXT)
    assert "history" not in json.loads(call.body)
    assert made.notices == ["an assistant message before the first question was dropped"]


def test_a_greeting_stays_where_system_text_stands_before_it() -> None:
    messages = (Message("system", (TextPart("s"),)), Message("assistant", (TextPart("Hello!"),)))
    body = sent(question(*messages, user("?", picture(url=ADDRESS))))
    assert [turn["content"] for turn in body["history"]] == ["s", "Hello!"]


def test_a_picture_of_an_earlier_turn_is_what_a_later_question_is_about() -> None:
    told = Message("assistant", (TextPart("A cat."),))
    body = sent(question(user("What?", picture(url=ADDRESS)), told, user("What colour?")))
    assert (body["fileurl"], body["query"]) == (ADDRESS, "What colour?")


@pytest.mark.parametrize("parts", [(), (picture(),)], ids=["no picture", "no address"])
def test_a_question_without_a_picture_is_refused(parts: tuple[ImagePart, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        called(question(user("?", *parts)))
    assert caught.value.param == "messages"
    assert caught.value.chinese


@pytest.mark.parametrize(
    "extra",
    [
        {"penalty_score": "1"},
        {"penalty_score": True},
        {"input_variables": ["a"]},
        {"ocr": {"regions": 1}},
    ],
)
def test_malformed_vendor_fields_are_named(extra: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        called(question(user("?", picture(url=ADDRESS)), extra=extra))
    assert caught.value.param in {*extra, "ocr.regions"}


def test_a_signed_call_names_its_host_with_a_port_only_where_the_address_has_an_odd_one() -> None:
    request = question(user("?", picture(url=ADDRESS)))
    hosts = {
        base: called(request, **ACCOUNT, api_key=None, secret_key=None, base_url=base).headers["host"]
        for base in ("https://AIP.baidubce.com:443", "http://h.test:80/", "http://h.test:8080")
    }
    assert list(hosts.values()) == ["aip.baidubce.com", "h.test", "h.test:8080"]


def test_a_signed_call_is_signed_as_published() -> None:
    context = type(CONTEXT)("r", 1, 1714970096.0, 1714970156.0, "0" * 32)
    made = ChatOcrTranslator("b", ChatOcrOptions(**ACCOUNT), "m")
    call = made.call(question(user("?", picture(url=ADDRESS))), context)
    assert call.token is None
    assert call.headers["authorization"] == (
        "bce-auth-v1/ALTAKfakefakefakefake01/2024-05-06T04:34:56Z/1800/content-type;host;x-bce-date/"
        "053ccf932dc13c0a5e84d128b9f4641825be15abcd4494e7b50ae366038a5fee"
    )


def test_thousands_of_neighbours_are_joined_in_no_time() -> None:
    messages = [user("x" * 1000) for _ in range(9000)]
    request = question(*messages, Message("assistant", (TextPart("y"),)), user("?", picture(url=ADDRESS)))
    start_s = process_time()
    turns = sent(request)["history"]
    assert process_time() - start_s < 1.0  # of the event loop's
    assert [turn["role"] for turn in turns] == ["user", "assistant"]
    assert len(turns[0]["content"]) == 9000 * 1002 - 2


# -------------------------------------------------------------------------------------------------------------- answers


def test_places_are_those_of_the_callers_picture() -> None:
    made = translator()
    part = picture(url=ADDRESS, source_width_px=200, source_height_px=200)
    made.call(question(user("?", part), extra={"ocr": {"regions": True}}), CONTEXT)
    item = {"word": "甲", "rect": {"left": 10, "top": 5, "width": 20, "height": 10}}
    (regions,) = read(made, {"response": {"error_no": 0, "result": {"ocr_result": [item]}}})
    assert isinstance(regions, OcrRegions)
    assert regions.regions[0].polygon_px == ((20.0, 20.0), (60.0, 20.0), (60.0, 60.0), (20.0, 60.0))


@pytest.mark.parametrize("result", [None, {"ocr_result": None}, {}])
def test_a_picture_without_text_has_no_places(result: Any) -> None:
    made = translator()
    made.call(question(user("?", picture(url=ADDRESS)), extra={"ocr": {"regions": True}}), CONTEXT)
    assert read(made, {"response": {"error_no": 0, "result": result}}) == [OcrRegions(0, ())]


def test_nothing_is_read_after_the_end() -> None:
    made = translator()
    end = {"result": "", "sentence_id": 0, "is_end": True}
    assert read(made, end, end, {"error_code": 18}) == [Finish("stop")]


@pytest.mark.parametrize("code", [0, "0", "", None])
def test_a_code_of_zero_is_no_error(code: Any) -> None:
    assert read(translator(), {"error_code": code, "result": "好"}) == [TextDelta("好"), Finish("stop")]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=6,
)
packets = st.fixed_dictionaries(
    {},
    optional={
        "result": st.text(max_size=4) | anything,
        "sentence_id": st.integers(0, 3) | anything,
        "is_end": st.booleans() | anything,
        "log_id": st.integers(0, 2**63) | anything,
        "usage": st.fixed_dictionaries({}, optional={"prompt_tokens": st.integers()}) | anything,
        "response": st.fixed_dictionaries({}, optional={"error_no": st.integers(0, 1), "result": anything}) | anything,
        "error_code": st.sampled_from([0, 18, "18", 999]) | anything,
    },
)


@given(frames=st.lists(packets.map(lambda packet: json.dumps(packet).encode()) | st.binary(max_size=12), max_size=5))
def test_any_frames_end_in_one_terminal_or_one_error(frames: list[bytes]) -> None:
    made = translator()
    request = question(user("?", picture(url=ADDRESS)), stream=True, extra={"ocr": {"regions": True}})
    made.call(request, CONTEXT)
    events: list[Event] = []
    error = None
    try:
        for frame in frames:
            events.extend(made.receive(Frame(frame)))
        events.extend(made.receive_eof())
    except BackendError as raised:
        error = raised
    ends = [event for event in events if isinstance(event, Finish)]
    assert len(ends) + (error is not None) == 1
    assert not ends or events[-1] is ends[0]


@pytest.mark.parametrize("nested", [b"[" * 100_000, b'{"result":' * 50_000, b'{"response":{"result":' + b"[" * 100_000])
def test_deep_nesting_is_no_answer(nested: bytes) -> None:
    with pytest.raises(BackendProtocolError):
        list(translator().receive(Frame(nested)))
    assert isinstance(translator().refused(400, {}, nested), BackendError)


@pytest.mark.parametrize(
    "url", ["h.test", "ftp://h.test", "https://me:pw@h.test", "https://h.test?x=1", "https://h.test:0"]
)
def test_an_address_that_cannot_be_signed_for_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="must be an address as https://host"):
        ChatOcrOptions.model_validate({"endpoint": "e", "api_key": "k", "secret_key": "s", "base_url": url})
