"""The translator of the embedded engine: records in, events out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from app.backends.ocr import SPEC, OcrOptions, OcrTranslator, count_tokens
from app.backends.registry import spec_of
from app.core.errors import BackendProtocolError, BackendUnavailable, InvalidRequest
from app.core.events import Answer, Event, Finish, OcrRegion, OcrRegions, TextDelta, UsageReport, collect
from app.core.types import ChatRequest, Context, Frame, Image, ImagePart, LocalCall, Message, Part, TextPart

CONTEXT = Context(request_id="r", attempt=1, now=0.0, deadline=60.0, nonce="0" * 32)
SQUARE = [[10, 20], [110, 20], [110, 50], [10, 50]]


def picture(name: str = "a", *, source_width_px: int = 0, source_height_px: int = 0) -> Image:
    return Image(name.encode(), "image/png", 200, 100, name, None, source_width_px, source_height_px)


def question(*parts: Part, history: Iterable[Message] = (), **extra: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(*history, Message("user", tuple(parts))), extra=extra)


def asked(request: ChatRequest) -> tuple[OcrTranslator, LocalCall]:
    translator = OcrTranslator("ocr", OcrOptions(), "rapidocr")
    return translator, translator.call(request, CONTEXT)


def piece(text: str, *, image: int = 0, row: int = 0) -> dict[str, Any]:
    return {"image": image, "row": row, "text": text, "polygon": SQUARE, "confidence": 0.98}


def done(image: int = 0) -> dict[str, Any]:
    return {"image": image, "done": True}


def events(translator: OcrTranslator, *records: dict[str, Any]) -> list[Event]:
    frames = [Frame(json.dumps(record).encode()) for record in records]
    return [*(event for frame in frames for event in translator.receive(frame)), *translator.receive_eof()]


def answer(request: ChatRequest, *records: dict[str, Any]) -> Answer:
    return collect(events(asked(request)[0], *records))


def test_the_registry_knows_the_kind() -> None:
    assert spec_of("ocr") is SPEC


def test_pieces_of_one_row_are_parted_by_blanks_and_rows_by_line_breaks() -> None:
    read = answer(question(ImagePart(picture())), piece("合计"), piece("180.00"), piece("谢谢", row=1), done())
    assert read.text == "合计 180.00\n谢谢"
    assert read.finish_reason == "stop"


def test_each_piece_is_passed_on_as_it_comes() -> None:
    translator, _ = asked(question(ImagePart(picture())))
    assert list(translator.receive(Frame(json.dumps(piece("one")).encode()))) == [TextDelta("one")]
    assert list(translator.receive(Frame(json.dumps(piece("two", row=1)).encode()))) == [TextDelta("\ntwo")]


def test_pictures_are_parted_by_an_empty_line() -> None:
    request = question(ImagePart(picture()), ImagePart(picture("b")))
    assert answer(request, piece("one"), done(), piece("two", image=1), done(1)).text == "one\n\ntwo"


@pytest.mark.parametrize(
    ("asking", "said"),
    [
        ((), "No text was found in the picture. / 图片中没有识别到文字。"),
        ((TextPart("What does it say?"),), "No text was found in the picture."),
        ((TextPart("写的是什么？"),), "图片中没有识别到文字。"),
    ],
)
def test_a_picture_without_text_is_said_to_be_one_in_the_language_of_the_question(
    asking: tuple[TextPart, ...], said: str
) -> None:
    assert answer(question(ImagePart(picture()), *asking), done()).text == said


def test_a_picture_without_text_between_others_keeps_its_place() -> None:
    request = question(TextPart("?"), *(ImagePart(picture(name)) for name in "abc"))
    read = answer(request, piece("one"), done(), done(1), piece("three", image=2), done(2))
    assert read.text == "one\n\nNo text was found in the picture.\n\nthree"


@pytest.mark.parametrize(
    ("asking", "start"),
    [
        ("Hello", "I read the text in pictures."),
        ("你好", "我只识别图片中的文字。"),
        ("", "I read the text in pictures."),
    ],
)
def test_a_question_without_a_picture_is_told_how_to_send_one(asking: str, start: str) -> None:
    translator, call = asked(question(TextPart(asking)))
    assert call.images == ()
    read = collect(events(translator))
    assert read.text.startswith(start)
    assert "image_url" in read.text
    assert "\n" not in read.text
    assert read.usage is not None
    assert read.usage.output_tokens > 0


def test_only_pictures_since_the_model_last_spoke_are_read() -> None:
    old = Message("user", (ImagePart(picture("old")),))
    fresh = Message("user", (ImagePart(picture("b")), ImagePart(picture("c"))))
    history = (old, Message("assistant", (TextPart("…"),)), Message("system", ()), fresh)
    _, call = asked(question(ImagePart(picture("d")), TextPart("and this?"), history=history))
    assert [image.sha256 for image in call.images] == ["b", "c", "d"]


def test_the_engine_is_told_how_sure_it_must_be() -> None:
    translator = SPEC.translator("ocr", OcrOptions(text_score=0.8), "rapidocr")
    assert translator.call(question(ImagePart(picture())), CONTEXT) == LocalCall(
        "ocr", (picture(),), {"text_score": 0.8}
    )


def test_an_impossible_text_score_is_refused() -> None:
    with pytest.raises(ValidationError):
        OcrOptions(text_score=1.5)


def test_regions_are_given_on_request_in_pixels_of_the_callers_picture() -> None:
    shrunk = picture(source_width_px=400, source_height_px=300)
    translator, _ = asked(question(ImagePart(shrunk), ocr={"regions": True}))
    regions = [event for event in events(translator, piece("one"), done()) if isinstance(event, OcrRegions)]
    polygon = ((20.0, 60.0), (220.0, 60.0), (220.0, 150.0), (20.0, 150.0))
    assert regions == [OcrRegions(0, (OcrRegion("one", polygon, 0.98),))]


def test_regions_of_each_picture_come_apart_and_unscaled_where_nothing_was_shrunk() -> None:
    request = question(ImagePart(picture()), ImagePart(picture("b")), ocr={"regions": True})
    read = answer(request, piece("one"), done(), done(1))
    assert [(found.image_index, len(found.regions)) for found in read.regions] == [(0, 1), (1, 0)]
    assert read.regions[0].regions[0].polygon_px == tuple((float(x), float(y)) for x, y in SQUARE)


@pytest.mark.parametrize("field", [None, {}, {"regions": None}, {"regions": False}])
def test_regions_are_left_out_unless_asked_for(field: object) -> None:
    assert answer(question(ImagePart(picture()), ocr=field), piece("one"), done()).regions == ()


@pytest.mark.parametrize(
    ("field", "param"),
    [("regions", "ocr"), ([], "ocr"), ({"region": True}, "ocr"), ({"regions": "yes"}, "ocr.regions"), ({1: 2}, "ocr")],
)
def test_a_malformed_ocr_field_is_refused_by_name(field: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        asked(question(ImagePart(picture()), ocr=field))
    assert refusal.value.param == param


def test_usage_counts_pictures_and_the_text_said() -> None:
    request = question(ImagePart(picture()), ImagePart(picture("b")))
    translator, _ = asked(request)
    *_, usage, end = events(translator, piece("合计 180.00"), done(), piece("abcdefgh", image=1), done(1))
    # 2 Chinese characters; " 180.00" + two line breaks + 8 letters = 17 others, 5 tokens
    assert usage == UsageReport(output_tokens=7, image_count=2, source="counted")
    assert end == Finish("stop")


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("图问", 2), ("图a", 2)])
def test_tokens_are_counted_by_our_own_rule(text: str, tokens: int) -> None:
    assert count_tokens(text) == tokens


def test_an_answer_cut_short_is_an_error_worth_another_try() -> None:
    translator, _ = asked(question(ImagePart(picture()), ImagePart(picture("b"))))
    with pytest.raises(BackendProtocolError) as cut:
        events(translator, piece("one"), done())
    assert cut.value.retryable


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"image": "first"}'])
def test_a_record_that_is_none_is_an_error(data: bytes) -> None:
    translator, _ = asked(question(ImagePart(picture())))
    with pytest.raises(BackendProtocolError):
        list(translator.receive(Frame(data)))


@pytest.mark.parametrize("image", [1, -1])
def test_a_record_about_a_picture_that_was_not_sent_is_an_error(image: int) -> None:
    translator, _ = asked(question(ImagePart(picture())))
    with pytest.raises(BackendProtocolError):
        events(translator, piece("one", image=image))


def test_a_status_has_no_meaning_here_and_counts_as_unavailable() -> None:
    translator, _ = asked(question(TextPart("?")))
    assert isinstance(translator.refused(503, {}, b""), BackendUnavailable)


def test_pictures_pass_without_re_encoding_up_to_the_engines_bounds() -> None:
    capabilities = SPEC.capabilities(OcrOptions(), "rapidocr")
    assert capabilities.streaming
    assert capabilities.newest_turn_only
    assert capabilities.max_images == 50
    assert capabilities.extra == {"ocr"}
    assert not capabilities.tools
    assert capabilities.image_rules.min_side_px == 1
    assert capabilities.image_rules.formats == ("jpeg", "png", "webp")
