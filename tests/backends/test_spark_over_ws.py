"""Spark through the whole gateway, before a service that judges signatures, clocks, pictures and the order of words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.pictures import data_url, picture, question
from tests.fakes import spark
from tests.fakes.http import Cut
from tests.fakes.spark import SparkAccount, picture_of
from tests.fakes.spark_request import MAX_IMAGE_BYTES, size_of
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import Steps, close
from tests.media.pictures import file_of, noise
from tests.support.server import Served, events_of, serving

KEY, SECRET = "0123456789abcdef0123456789abcdef", "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk="
MODELS = """
[backends.spark]
kind = "spark"
app_id = "a1b2c3d4"
api_key = "{key}"
api_secret = "{secret}"
base_url = "{ws_url}"
text_base_url = "{ws_url}"

[backends.stranger]
kind = "spark"
app_id = "a1b2c3d4"
api_key = "{key}"
api_secret = "bm90LXRoZS1zZWNyZXQtb2YtdGhlLWFjY291bnQ="
base_url = "{ws_url}"

[models.eyes]
routes = [{{ backend = "spark", model = "imagev3" }}]
text_model = "4.0Ultra"

[models.short-eyes]
routes = [{{ backend = "spark", model = "general" }}]
image_tokens = "spark-general"

[models.stranger]
routes = [{{ backend = "stranger", model = "imagev3" }}]
"""
SEEN = question(data_url(picture()), text="图里有什么?")


@pytest.fixture(scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as up:
        yield up


@pytest.fixture(scope="module")
def served(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = MODELS.format(ws_url=_upstream.ws_url, key=KEY, secret=SECRET)
    with serving(tmp_path_factory.mktemp("gateway"), models) as site:
        yield site


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.forget()
    return _upstream


def answering(upstream: Upstream, *steps: Steps, skew_s: float = 0.0) -> None:
    """Spark's next answers, the last for good; its clock may differ from ours."""
    account = SparkAccount("a1b2c3d4", KEY, SECRET, clock=lambda: time.time() + skew_s)
    upstream.otherwise(account.serving(*steps))


def streamed(response: httpx2.Response) -> tuple[str, str | None, list[dict[str, Any]]]:
    """The text of a stream, its finish reason, and its errors."""
    assert response.status_code == 200, response.text
    chunks = [json.loads(event) for event in events_of(response.text) if event != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(reasons) <= 1
    assert (events_of(response.text)[-1] == "[DONE]") == bool(reasons)
    return text, reasons[0] if reasons else None, [chunk["error"] for chunk in chunks if "error" in chunk]


def test_a_picture_is_answered_about_in_a_stream(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.stream("一只", None, "猫"))
    response = served.chat("eyes", messages=SEEN, stream=True, stream_options={"include_usage": True})
    assert streamed(response) == ("一只猫", "stop", [])
    row = served.booked(response)
    assert (row.usage_source, row.input_tokens, row.output_tokens, row.image_count) == ("upstream", 282, 14, 1)
    [request] = upstream.requests
    assert request.json["parameter"]["chat"]["domain"] == "imagev3"


@pytest.mark.parametrize("header_status", [None, 0, 1])
def test_a_picture_is_answered_about_as_a_whole(served: Served, upstream: Upstream, header_status: int | None) -> None:
    answering(upstream, spark.stream("一只", "猫", header_status=header_status))
    answer = served.chat("eyes", messages=SEEN).json()
    assert answer["choices"][0]["message"]["content"] == "一只猫"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 282


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_in_one_frame_loses_nothing(served: Served, upstream: Upstream, *, stream: bool) -> None:
    answering(upstream, spark.whole("42元。"))
    response = served.chat("eyes", messages=SEEN, stream=stream)
    if stream:
        assert streamed(response) == ("42元。", "stop", [])
    else:
        assert response.json()["choices"][0]["message"]["content"] == "42元。"


def test_a_photo_of_twelve_megapixels_arrives_within_the_bounds(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("好"))
    photo = file_of(noise(500, 375).resize((4000, 3000)), "JPEG", quality=95)
    response = served.chat("eyes", messages=question(data_url(photo, "image/jpeg")))
    assert response.status_code == 200, response.text
    arrived = picture_of(upstream.requests[0])
    assert len(arrived) <= MAX_IMAGE_BYTES
    width_px, height_px = size_of(arrived)
    assert width_px / height_px == pytest.approx(4 / 3, rel=0.01)


@pytest.mark.parametrize("size", [(6500, 6500), (13_000, 40), (3, 3), (1, 40)])
def test_pictures_of_impossible_sizes_are_made_possible(
    served: Served, upstream: Upstream, size: tuple[int, int]
) -> None:
    answering(upstream, spark.whole("好"))
    response = served.chat("eyes", messages=question(data_url(picture(size))))
    assert response.status_code == 200, response.text


def test_a_history_of_twenty_thousand_characters_is_cut_to_what_fits(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("好"))
    history = [{"role": role, "content": "字" * 1000} for _ in range(10) for role in ("user", "assistant")]
    response = served.chat("short-eyes", messages=[*history, *SEEN])
    assert response.status_code == 200, response.text
    assert "oldest turn(s) dropped" in response.headers["x-tuwen-notice"]
    texts = upstream.requests[0].json["payload"]["message"]["text"]
    assert texts[0]["content_type"] == "image"
    assert texts[-1]["content"] == "图里有什么?"
    assert len(texts) > 4, "what fits stays"


def test_a_question_of_twenty_thousand_characters_is_too_long(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("好"))
    response = served.chat("eyes", messages=question(data_url(picture()), text="字" * 20_000))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_a_question_without_a_picture_goes_to_the_text_model(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("你好"))
    rules = {"role": "system", "content": "简短。"}
    response = served.chat("eyes", messages=[rules, {"role": "user", "content": "你好"}], temperature=0)
    assert response.status_code == 200, response.text
    assert response.headers["x-tuwen-notice"] == "temperature sent as 0.01"
    [request] = upstream.requests
    assert request.path == "/v4.0/chat"
    assert [text["role"] for text in request.json["payload"]["message"]["text"]] == ["system", "user"]


def test_a_question_without_a_picture_gets_a_blank_one_where_there_is_no_text_model(
    served: Served, upstream: Upstream
) -> None:
    answering(upstream, spark.whole("你好"))
    response = served.chat("short-eyes")
    assert response.status_code == 200, response.text
    assert "blank picture" in response.headers["x-tuwen-notice"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (10013, 400, "content_filter"),
        (10907, 400, "context_length_exceeded"),
        (10041, 400, "backend_refused"),
        (11202, 429, "rate_limit_exceeded"),
        (10012, 503, "backend_unavailable"),
        (11200, 502, "backend_misconfigured"),
    ],
)
def test_an_error_before_any_text_is_a_status(
    served: Served, upstream: Upstream, code: int, status: int, said: str, *, stream: bool
) -> None:
    answering(upstream, spark.error(code, "the vendor's words"))
    response = served.chat("eyes", messages=SEEN, stream=stream)
    assert (response.status_code, response.json()["error"]["code"]) == (status, said)
    assert "the vendor's words" not in response.text
    assert str(code) not in response.text


def test_a_content_check_after_text_ends_the_answer_with_its_reason(served: Served, upstream: Upstream) -> None:
    answering(upstream, [*spark.stream("前半", "句", finish=False), *spark.error(10014)])
    assert streamed(served.chat("eyes", messages=SEEN, stream=True)) == ("前半句", "content_filter", [])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (spark.error(10012), "backend_unavailable"),
        ([Cut()], "backend_protocol_error"),
        ([close(1000)], "backend_protocol_error"),
        (["{"], "backend_protocol_error"),
    ],
)
def test_a_fault_after_text_never_looks_like_an_end(
    served: Served, upstream: Upstream, end: list[Any], code: str
) -> None:
    answering(upstream, [*spark.stream("前半", "句", finish=False), *end])
    text, reason, [error] = streamed(served.chat("eyes", messages=SEEN, stream=True))
    assert (text, reason, error["code"]) == ("前半句", None, code)


def test_a_wrong_secret_is_the_operators_to_mend(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("好"))
    response = served.chat("stranger", messages=SEEN)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == "backend_misconfigured"
    assert "HMAC" not in response.text
    assert upstream.requests[0].messages == [], "the picture did not go out"


@pytest.mark.parametrize("skew_s", [-400, 400])
def test_a_clock_that_is_off_is_said_to_be_off(served: Served, upstream: Upstream, skew_s: int) -> None:
    answering(upstream, spark.whole("好"), skew_s=skew_s)
    response = served.chat("eyes", messages=SEEN)
    wrong = served.chat("stranger", messages=SEEN)
    assert response.status_code == 502
    assert "clock" in response.json()["error"]["message"]
    assert wrong.json() == response.json(), "the clock is judged first"


def test_a_clock_off_by_less_than_five_minutes_does_no_harm(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("好"), skew_s=290)
    assert served.chat("eyes", messages=SEEN).status_code == 200


def test_each_question_has_a_user_and_a_signature_of_its_own(served: Served, upstream: Upstream) -> None:
    answering(upstream, spark.whole("好"))
    assert [served.chat("eyes", messages=SEEN).status_code for _ in range(3)] == [200] * 3
    users = {request.json["header"]["uid"] for request in upstream.requests}
    assert len(users) == 3
    assert all(request.query.startswith("authorization=") for request in upstream.requests)
