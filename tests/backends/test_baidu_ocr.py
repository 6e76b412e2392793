"""Baidu's OCR: its four services, alone, over a socket and through the gateway."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from app.backends.baidu_ocr import SPEC, BaiduOcrOptions, BaiduOcrTranslator
from app.core.errors import BackendError, BackendProtocolError, InvalidRequest
from app.core.events import Answer, Event, Finish, OcrRegions, collect
from app.core.types import ChatRequest, Frame, Image, ImagePart, Message, Part, TextPart
from app.transports.http import HttpTransport
from tests.backends.exchanges import CONTEXT
from tests.fakes.baidu import Baidu
from tests.fakes.upstream import Upstream
from tests.media.pictures import file_of, four_colours
from tests.support.server import events_of, serving

APPLICATION = {"api_key": "k" * 24, "secret_key": "s" * 32}
PICTURE = file_of(four_colours(64, 48), "PNG")
SERVICES = ("general", "general_basic", "accurate", "accurate_basic")


def picture(data: bytes = PICTURE, **fields: int) -> ImagePart:
    return ImagePart(Image(data, "image/png", 64, 48, "0", None, **fields))


def question(*parts: Part, model: str = "general", **extra: Any) -> ChatRequest:
    return ChatRequest(model, (Message("user", parts),), extra=extra)


def translator(model: str = "general", **options: str) -> BaiduOcrTranslator:
    return BaiduOcrTranslator("b", BaiduOcrOptions.model_validate(options or APPLICATION), model)


def read(made: BaiduOcrTranslator, answer: Any) -> list[Event]:
    return [*made.receive(Frame(json.dumps(answer).encode())), *made.receive_eof()]


def test_the_newest_picture_goes_out_byte_for_byte_whatever_its_bytes() -> None:
    data = bytes(range(256)) * 3
    old = Message("user", (picture(b"old"),))
    request = ChatRequest("general", (old, Message("assistant", (TextPart("…"),)), Message("user", (picture(data),))))
    form = dict(parse_qsl(translator().call(request, CONTEXT).body.decode(), strict_parsing=True))
    assert base64.b64decode(form.pop("image"), validate=True) == data
    assert form == {"detect_direction": "true", "probability": "true"}


def test_a_question_without_a_picture_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        translator().call(question(TextPart("?")), CONTEXT)
    assert caught.value.chinese


def test_places_are_those_of_the_callers_picture() -> None:
    made = translator()
    made.call(question(picture(source_width_px=128, source_height_px=48), ocr={"regions": True}), CONTEXT)
    line = {"words": "甲", "location": {"left": 1, "top": 2, "width": 3, "height": 4}}
    regions = next(event for event in read(made, {"words_result": [line]}) if isinstance(event, OcrRegions))
    assert regions.regions[0].polygon_px == ((2.0, 2.0), (8.0, 2.0), (8.0, 6.0), (2.0, 6.0))


def test_places_nobody_asked_for_are_not_told() -> None:
    made = translator()
    made.call(question(picture()), CONTEXT)
    assert not any(isinstance(event, OcrRegions) for event in read(made, {"words_result": [{"words": "a"}]}))


@pytest.mark.parametrize("asked", [{"regions": 1}, [], {"lines": True}])
def test_a_malformed_wish_for_places_is_named(asked: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translator().call(question(picture(), ocr=asked), CONTEXT)
    assert str(caught.value.param).startswith("ocr")


def test_an_answer_is_read_once() -> None:
    made = translator()
    assert read(made, {"words_result": [{"words": "a"}]})[-1] == Finish("stop")
    assert read(made, {"words_result": [{"words": "b"}]}) == []


def test_no_answer_at_all_is_an_error() -> None:
    with pytest.raises(BackendProtocolError):
        translator().receive_eof()


@pytest.mark.parametrize(
    ("model", "max_side_px", "max_form_bytes"),
    [
        ("general", 4096, 8_000_000),
        ("general_basic", 4096, 4_000_000),
        ("accurate", 8192, 10_000_000),
        ("accurate_basic", 8192, 10_000_000),
        ("telepathy", 4096, 4_000_000),
    ],
)
def test_the_largest_picture_allowed_fits_the_form(model: str, max_side_px: int, max_form_bytes: int) -> None:
    able = SPEC.capabilities(BaiduOcrOptions.model_validate(APPLICATION), model)
    rules = able.image_rules
    assert (rules.formats, rules.min_side_px, rules.max_side_px) == (("jpeg", "png", "bmp"), 15, max_side_px)
    assert (able.max_images, able.needs_image, able.newest_turn_only) == (1, True, True)
    assert rules.max_image_bytes is not None
    largest = (bytes(range(256)) * 40_000)[: rules.max_image_bytes]
    body = translator(model).call(question(picture(largest)), CONTEXT).body
    assert 0.9 * max_form_bytes < len(body) <= max_form_bytes


@pytest.mark.parametrize("model", [*SERVICES, "handwriting"])
def test_a_look_at_a_route_tells_whether_there_is_such_a_service(model: str) -> None:
    options = BaiduOcrOptions.model_validate(APPLICATION)
    findings = {finding.check: finding for finding in SPEC.inspect(options, model)}
    assert findings["credentials"].ok
    assert findings["model"].ok is (model in SERVICES)
    assert findings["model"].chinese != findings["model"].english
    assert f"/rest/2.0/ocr/v1/{model}" in list(SPEC.addresses(options, model))[1]


# ------------------------------------------------------------------------------------------------------- over a socket


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport()
    yield transport
    await transport.aclose()


async def asked(transport: HttpTransport, up: Upstream, model: str, options: dict[str, str]) -> Answer:
    made = translator(model, base_url=up.url, **options)
    call = made.call(question(picture(), model=model, ocr={"regions": True}), CONTEXT)
    async with transport.open(call, backend="b", connect_s=5.0) as reply:
        if reply.status >= 400:
            raise made.refused(reply.status, reply.headers, await reply.body())
        events = [event async for batch in reply.frames() for frame in batch for event in made.receive(frame)]
    return collect([*events, *made.receive_eof()])


@pytest.mark.parametrize("model", SERVICES)
@pytest.mark.parametrize("way", ["application", "account"])
async def test_each_service_takes_both_kinds_of_credentials(transport: HttpTransport, way: str, model: str) -> None:
    baidu = Baidu(now=lambda: CONTEXT.now)
    async with Upstream() as up:
        up.otherwise(baidu)
        answer = await asked(transport, up, model, getattr(baidu, way))
    assert answer.text == "某某大学"
    assert [region.confidence for regions in answer.regions for region in regions.regions] == (
        [] if model.endswith("_basic") else [0.97]
    )
    assert baidu.pictures == [PICTURE]


@pytest.mark.parametrize("code", [14, 17, 216201, 282000])
async def test_a_refusal_of_status_200_is_an_error(transport: HttpTransport, code: int) -> None:
    baidu = Baidu(now=lambda: CONTEXT.now)
    baidu.refuse(code)
    async with Upstream() as up:
        up.otherwise(baidu)
        with pytest.raises(BackendError) as caught:
            await asked(transport, up, "general", baidu.application)
    assert caught.value.backend_code == str(code)


async def test_a_wrong_signature_is_told_by_its_status(transport: HttpTransport) -> None:
    baidu = Baidu(now=lambda: CONTEXT.now)
    async with Upstream() as up:
        up.otherwise(baidu)
        with pytest.raises(BackendError) as caught:
            await asked(transport, up, "general", baidu.account | {"secret_access_key": "f" * 32})
    assert caught.value.backend_code == "SignatureDoesNotMatch"


# -------------------------------------------------------------------------------------------------- through the gateway

MODELS = """
[backends.b]
kind = "baidu_ocr"
base_url = "{url}"
api_key = "{api_key}"
secret_key = "{secret_key}"

[models.m]
routes = [{{ backend = "b", model = "general" }}]
tariff = {{ per_call = "0.01" }}
"""


def test_a_caller_reads_the_text_of_a_picture_whole_and_streamed(tmp_path: Path) -> None:
    baidu = Baidu()
    url = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    with Upstream().in_thread() as up:
        up.otherwise(baidu)
        with serving(tmp_path, MODELS.format(url=up.url, **baidu.application)) as served:
            whole = served.chat(messages=messages)
            baidu.end_tokens()
            streamed = served.chat(messages=messages, stream=True)
            row = served.booked(whole)
    assert whole.json()["choices"][0]["message"]["content"] == "某某大学"
    pieces = [json.loads(event) for event in events_of(streamed.text) if event != "[DONE]"]
    assert (
        "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces if piece["choices"]) == "某某大学"
    )
    assert events_of(streamed.text)[-1] == "[DONE]"
    assert (row.output_tokens, row.image_count, row.usage_source) == (4, 1, "counted")
    assert sum(request.path == "/oauth/2.0/token" for request in up.requests) == 2


def test_a_place_that_no_picture_has_is_no_answer() -> None:
    far = {"words": "x", "location": {"left": 1e308, "top": 0, "width": 1e308, "height": 1}}
    made = translator()
    made.call(question(picture(), ocr={"regions": True}), CONTEXT)
    with pytest.raises(BackendProtocolError):
        read(made, {"words_result": [far]})
