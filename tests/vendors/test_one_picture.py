"""Any conversation asked of Spark, which takes one picture, first, and 8192 tokens in all: judged by its server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image, ImageChops

from tests.api.pictures import data_url, picture, question
from tests.fakes import spark
from tests.fakes.http import Received
from tests.fakes.spark import SparkAccount
from tests.fakes.spark_request import MAX_IMAGE_BYTES, size_of, tokens_of
from tests.fakes.upstream import Upstream
from tests.support.server import Served, events_of, serving
from tests.vendors.conftest import Shown

CLAIM = "any conversation fits a model of one picture"
CONVERSATION_TOKENS = 8192
PICTURE_TOKENS = 273
ACCOUNT = SparkAccount("a1b2c3d4", "spark-key", "spark-secret")
MODELS = """
[backends.spark]
app_id = "a1b2c3d4"
api_key = "spark-key"
api_secret = "spark-secret"
base_url = "{ws}/v2.1/image"
text_base_url = "{ws}"

[models.sheet]
routes = [{{ backend = "spark", model = "imagev3" }}]
multi_image = "montage"

[models.eyes-only]
routes = [{{ backend = "spark", model = "general" }}]
image_tokens = "spark-general"
"""
SENTENCES = (
    "这张照片里的每一样东西都值得细看。",
    "Every thing in this picture deserves a closer look. ",
    "🐈👀🌸",
    "第 12 项 (item twelve): 3,450.00 元；",
)
COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "orange": (255, 165, 0)}


@pytest.fixture(scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def served(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("gateway"), MODELS.format(ws=_upstream.ws_url)) as site:
        yield site


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """Spark, which answers whatever passes its checks."""
    _upstream.forget()
    _upstream.otherwise(ACCOUNT.serving(spark.stream("好", "的")))
    return _upstream


def urls(*colours: str) -> list[str]:
    return [data_url(picture((400, 300), colour=colour)) for colour in colours]


def says(role: str, text: str, *pictures: str) -> dict[str, Any]:
    """A message of text, or of pictures and text."""
    return question(*pictures, text=text)[0] | {"role": role} if pictures else {"role": role, "content": text}


def answered(served: Served, model: str = "spark-vision", **fields: Any) -> list[str]:
    """The notices of a request that Spark took."""
    response = served.chat(model, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "好的"
    return response.headers.get("x-tuwen-notice", "").split("; ") if "x-tuwen-notice" in response.headers else []


def texts_of(request: Received) -> list[tuple[str, str]]:
    """Role and words of what reached it, the picture left out."""
    texts = request.json["payload"]["message"]["text"]
    return [(text["role"], text["content"]) for text in texts if text.get("content_type") != "image"]


def parameters_of(request: Received) -> dict[str, Any]:
    parameters: dict[str, Any] = request.json["parameter"]["chat"]
    return parameters


def picture_in(request: Received) -> Image.Image:
    return Image.open(io.BytesIO(spark.picture_of(request))).convert("RGB")


def place_of(sheet: Image.Image, colour: str) -> tuple[int, int, int, int]:
    """The box around all pixels of about this colour."""
    far = ImageChops.difference(sheet, Image.new("RGB", sheet.size, COLOURS[colour])).split()
    near = ImageChops.lighter(ImageChops.lighter(far[0], far[1]), far[2]).point([255] * 40 + [0] * 216)
    box = near.getbbox()
    assert box is not None, colour
    return box


def test_two_pictures_at_once_are_refused_before_spark_hears_of_them(
    served: Served, upstream: Upstream, shown: Shown
) -> None:
    for model in ("spark-vision", "spark-general-vision", "eyes-only"):
        response = served.chat(model, messages=question(*urls("red", "blue")))
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "unsupported_feature"
    assert not upstream.requests
    shown(CLAIM, cases=3)


def test_with_montage_one_numbered_sheet_of_all_arrives(served: Served, upstream: Upstream, shown: Shown) -> None:
    assert answered(served, "sheet", messages=question(*urls(*COLOURS), text="哪张是蓝色？")) == [
        "4 pictures laid out on one sheet"
    ]
    [request] = upstream.requests
    data = spark.picture_of(request)
    assert len(data) <= MAX_IMAGE_BYTES
    sheet = picture_in(request)
    assert size_of(data) == sheet.size
    red, lime, blue, orange = (place_of(sheet, colour) for colour in COLOURS)
    assert red[2] < lime[0] and blue[2] < orange[0]  # noqa: PT018 - two rows
    assert red[3] < blue[1] and lime[3] < orange[1]  # noqa: PT018 - two columns
    for left, top, right, _ in (red, lime, blue, orange):
        above = sheet.crop((left, max(top - 40, 0), right, max(top - 2, 1))).convert("L")
        assert above.getextrema()[0] < 100, "its number stands above it"  # type: ignore[operator]  # one band: a pair
    assert texts_of(request) == [("user", "（这张图由 4 张图片拼成，编号 1 到 4 标在各图左上方。）\n哪张是蓝色？")]
    shown(CLAIM, cases=1)


def test_words_alone_go_to_the_text_model_at_its_own_address(served: Served, upstream: Upstream, shown: Shown) -> None:
    system = {"role": "system", "content": "用中文回答"}
    assert answered(served, messages=[system, says("user", "你好")]) == []
    assert answered(served, "spark-general-vision", messages=[system, says("user", "你好")]) == []
    ultra, lite = upstream.requests
    assert (ultra.path, parameters_of(ultra)["domain"]) == ("/v4.0/chat", "4.0Ultra")
    assert texts_of(ultra) == [("system", "用中文回答"), ("user", "你好")]
    assert (lite.path, parameters_of(lite)["domain"]) == ("/v1.1/chat", "lite")
    row = served.rows()[0]
    assert (row.model, row.backend_model, row.image_count) == ("spark-general-vision", "lite", 0)
    shown(CLAIM, cases=2)


def test_without_a_text_model_a_blank_picture_arrives_with_a_notice(
    served: Served, upstream: Upstream, shown: Shown
) -> None:
    assert answered(served, "eyes-only", messages=[says("user", "你好")]) == [
        "a blank picture added: this model takes none without"
    ]
    [request] = upstream.requests
    assert picture_in(request).getextrema() == ((255, 255),) * 3
    assert texts_of(request) == [("user", "你好")]
    shown(CLAIM, cases=1)


@pytest.mark.parametrize(
    ("model", "asked"),
    [("spark-vision", {}), ("spark-general-vision", {"max_tokens": 8192}), ("spark-vision", {"max_tokens": 8192})],
)
@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_long_history_is_trimmed_until_spark_takes_it(
    served: Served, upstream: Upstream, *, model: str, asked: dict[str, int], sentence: str, shown: Shown
) -> None:
    long = sentence * (900 // len(sentence))
    turns = [says("user", f"第 0 问。{long}", *urls("red"))]
    for number in range(1, 30):
        turns += [says("assistant", f"第 {number - 1} 答。{long}"), says("user", f"第 {number} 问。{long}")]
    [notice] = answered(served, model, messages=[says("system", "请简短回答。"), *turns], **asked)
    assert notice.endswith("oldest turn(s) dropped")
    [request] = upstream.requests
    kept = texts_of(request)
    dropped = int(notice.split()[0])
    assert kept[0][1].startswith(f"请简短回答。\n第 {dropped} 问。")
    assert kept[-1][1] == turns[-1]["content"]
    assert [role for role, _ in kept] == [("user", "assistant")[at % 2] for at in range(len(kept))]
    words = tokens_of("".join(text for _, text in kept))
    answer = parameters_of(request)["max_tokens"]
    assert words + PICTURE_TOKENS + answer <= CONVERSATION_TOKENS, "the service's own estimate"
    assert answer >= 256
    assert words > CONVERSATION_TOKENS // 3, "no more was dropped than had to be"
    assert place_of(picture_in(request), "red")
    shown(CLAIM, cases=1)


def test_pictures_of_older_turns_stay_behind_and_the_newest_comes(
    served: Served, upstream: Upstream, shown: Shown
) -> None:
    messages = [
        says("user", "这是什么？", *urls("red")),
        says("assistant", "红色。"),
        says("user", "这呢？", *urls("lime")),
        says("assistant", "绿色。"),
        says("user", "那这张呢？", *urls("blue")),
    ]
    assert answered(served, messages=messages) == ["2 picture(s) of older turns dropped"]
    [request] = upstream.requests
    assert picture_in(request).getextrema() == ((0, 0), (0, 0), (255, 255))
    assert [text for _, text in texts_of(request)] == ["这是什么？", "红色。", "这呢？", "绿色。", "那这张呢？"]
    shown(CLAIM, cases=1)


def test_system_text_is_folded_where_the_picture_service_knows_none(
    served: Served, upstream: Upstream, shown: Shown
) -> None:
    messages = [
        says("system", "你是专家。"),
        says("user", "图里有什么？", *urls("red")),
        says("assistant", "红色。"),
        says("developer", "回答要短。"),
        says("user", "还有呢？"),
    ]
    answered(served, messages=messages)
    answered(served, messages=[says("system", "描述图片。"), says("user", "", *urls("red"))])
    first, second = upstream.requests
    assert texts_of(first) == [
        ("user", "你是专家。\n回答要短。\n图里有什么？"),
        ("assistant", "红色。"),
        ("user", "还有呢？"),
    ]
    assert texts_of(second) == [("user", "描述图片。")]
    shown(CLAIM, cases=2)


@pytest.mark.parametrize(
    ("asked", "sent", "notices"),
    [
        ({"temperature": 0}, {"temperature": 0.01}, ["temperature sent as 0.01"]),
        ({"temperature": 2}, {"temperature": 1.0}, ["temperature sent as 1"]),
        ({"temperature": 0.3}, {"temperature": 0.3}, []),
        ({}, {"temperature": 0.5, "max_tokens": 2048}, []),
        ({"max_tokens": 5}, {"max_tokens": 5}, []),
        ({"top_p": 0.5, "seed": 7}, {}, ["top_p dropped", "seed dropped"]),
        ({"stop": "。", "frequency_penalty": 1}, {}, ["stop dropped", "frequency_penalty dropped"]),
        ({"top_k": 6}, {"top_k": 6}, []),
        ({"top_k": 99}, {"top_k": 6}, ["top_k sent as 6"]),
    ],
)
def test_knobs_are_brought_into_sparks_range_and_the_caller_is_told(
    served: Served, upstream: Upstream, *, asked: dict[str, Any], sent: dict[str, Any], notices: list[str], shown: Shown
) -> None:
    assert answered(served, messages=question(*urls("red")), **asked) == notices
    parameters = parameters_of(upstream.requests[0])
    assert parameters.items() >= sent.items()
    assert parameters.keys() <= {"domain", "temperature", "top_k", "max_tokens", "auditing", "chat_id"}
    shown(CLAIM, cases=1)


def test_a_wish_for_a_hundred_thousand_tokens_is_cut_to_the_room_there_is(
    served: Served, upstream: Upstream, shown: Shown
) -> None:
    answered(served, messages=question(*urls("red")), max_tokens=100_000)
    answered(served, messages=[says("user", "你好")], max_completion_tokens=100_000)
    for request in upstream.requests:
        assert 6000 < parameters_of(request)["max_tokens"] < CONVERSATION_TOKENS
    shown(CLAIM, cases=2)


def test_a_question_too_long_by_itself_is_refused_as_such(served: Served, upstream: Upstream, shown: Shown) -> None:
    response = served.chat("spark-vision", messages=question(*urls("red"), text="长" * 20_000))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    shown(CLAIM, cases=1)


def test_each_request_has_a_uid_of_its_own(served: Served, upstream: Upstream, shown: Shown) -> None:
    with ThreadPoolExecutor(8) as callers:
        done = list(callers.map(lambda _: answered(served, messages=question(*urls("red")), user="anna"), range(24)))
    uids = [request.json["header"]["uid"] for request in upstream.requests]
    assert len(done) == len(set(uids)) == 24
    assert all(0 < len(uid) <= 32 for uid in uids)
    assert not any(b"anna" in request.messages[0] for request in upstream.requests)
    shown(CLAIM, cases=24)


def test_a_content_check_after_words_ends_the_answer_and_keeps_the_words(
    served: Served, upstream: Upstream, shown: Shown
) -> None:
    upstream.otherwise(ACCOUNT.serving([*spark.stream("图里", "有", finish=False), *spark.error(10014)]))
    whole = served.chat("spark-vision", messages=question(*urls("red")))
    streamed = served.chat("spark-vision", messages=question(*urls("red")), stream=True)
    choice = whole.json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("图里有", "content_filter")
    events = events_of(streamed.text)
    assert events[-1] == "[DONE]"
    assert '"finish_reason":"content_filter"' in events[-2]
    assert served.booked(whole).outcome == "finished"
    upstream.otherwise(ACCOUNT.serving(spark.error(10014)))
    refused = served.chat("spark-vision", messages=question(*urls("red")))
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    shown(CLAIM, cases=3)
