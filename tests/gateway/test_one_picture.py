"""Any conversation, sent to models that take one picture, want one always, and hold few tokens; told by what reached
the backend."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import PIL.Image
import PIL.ImageChops
import pytest

from app.backends.registry import KINDS
from tests.api.pictures import data_url, picture, question
from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

MODELS = """
[backends.single]
kind = "openai"
base_url = "{url}/v1"
max_images = 1

[backends.bounded]
kind = "openai"
base_url = "{url}/v1"
max_images = 1
image_rules = {{ formats = ["png"], max_side_px = 600, max_pixels = 200000, max_image_bytes = 20000 }}

[backends.spark-like]
kind = "limited"
base_url = "{url}/v1"
max_images = 1
needs_image = true
conversation_tokens = 1000
default_output_tokens = 200

[models.refusing]
routes = [{{ backend = "single", model = "one" }}]

[models.laying-out]
routes = [{{ backend = "single", model = "one" }}]
multi_image = "montage"

[models.bounded]
routes = [{{ backend = "bounded", model = "one" }}]
multi_image = "montage"

[models.always-seeing]
routes = [{{ backend = "spark-like", model = "eyes" }}]
image_tokens = "spark-general"

[models.two-minds]
routes = [{{ backend = "spark-like", model = "eyes" }}]
text_model = "words-only"
image_tokens = "spark-general"
"""

COLOURS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255), "orange": (255, 165, 0)}


@pytest.fixture(scope="module")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def _served(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "limited", "tests.gateway.limited_kind")
        with serving(tmp_path_factory.mktemp("gateway"), MODELS.format(url=_upstream.url)) as site:
            yield site


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.forget()
    return _upstream


@pytest.fixture
def served(_served: Served, upstream: Upstream) -> Served:
    return _served


def urls(*colours: str, size: tuple[int, int] = (400, 300)) -> list[str]:
    return [data_url(picture(size, colour=colour)) for colour in colours]


def sheet_of(upstream: Upstream) -> PIL.Image.Image:
    """The one picture that reached the backend."""
    [data] = upstream.requests[0].pictures
    return PIL.Image.open(io.BytesIO(data))


def texts_of(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


def places_of(sheet: PIL.Image.Image, colour: str) -> tuple[int, int, int, int] | None:
    """The box that holds all pixels of about this colour."""
    pixels = sheet.convert("RGB")
    far = PIL.ImageChops.difference(pixels, PIL.Image.new("RGB", pixels.size, COLOURS[colour])).split()
    mask = PIL.ImageChops.lighter(PIL.ImageChops.lighter(far[0], far[1]), far[2]).point([255] * 40 + [0] * 216)
    return mask.getbbox()


def test_several_pictures_are_laid_out_on_one_sheet_in_reading_order(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    response = served.chat("laying-out", messages=question(*urls(*COLOURS), text="哪张是蓝色？"))
    assert response.status_code == 200
    assert response.headers["x-tuwen-notice"] == "4 pictures laid out on one sheet"
    sheet = sheet_of(upstream)
    boxes = [places_of(sheet, colour) for colour in COLOURS]
    assert all(box is not None for box in boxes)
    red, lime, blue, orange = (box for box in boxes if box is not None)
    assert red[2] < lime[0] and blue[2] < orange[0]  # noqa: PT018 - two rows
    assert red[3] < blue[1] and lime[3] < orange[1]  # noqa: PT018 - two columns
    for left, top, right, bottom in (red, lime, blue, orange):
        assert abs((right - left) / (bottom - top) - 4 / 3) < 0.05
    assert not sheet.info.keys() & {"exif", "icc_profile", "transparency", "comment"}
    assert sheet.mode in ("RGB", "L")
    assert served.booked(response).image_count == 1


def test_the_question_says_how_to_read_the_sheet_in_its_own_language(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    served.chat("laying-out", messages=question(*urls("red", "blue"), text="哪张是蓝色？"))
    served.chat("laying-out", messages=question(*urls("red", "blue"), text="which is blue?"))
    [chinese], [english] = (request.json["messages"] for request in upstream.requests)
    assert texts_of(chinese) == ["（这张图由 2 张图片拼成，编号 1 到 2 标在各图左上方。）", "哪张是蓝色？"]
    assert texts_of(english) == [
        "(This picture is a sheet of 2 pictures, numbered 1 to 2; each number stands above its picture.)",
        "which is blue?",
    ]


def test_pictures_between_words_leave_their_numbers_there(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    before, after = ({"type": "image_url", "image_url": {"url": url}} for url in urls("red", "blue"))
    words = [{"type": "text", "text": text} for text in ("Before:", "After:", "What changed?")]
    served.chat("laying-out", messages=[{"role": "user", "content": [words[0], before, words[1], after, words[2]]}])
    [message] = upstream.requests[0].json["messages"]
    told = texts_of(message)
    assert (told[0], told[2:]) == ("Before:", ["[picture 1]", "After:", "[picture 2]", "What changed?"])


def test_a_sheet_keeps_the_rules_of_the_route(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    assert served.chat("bounded", messages=question(*urls(*COLOURS, size=(1600, 1200)))).status_code == 200
    sheet = sheet_of(upstream)
    assert sheet.format == "PNG"
    assert max(sheet.size) <= 600
    assert sheet.width * sheet.height <= 200_000
    assert len(upstream.requests[0].pictures[0]) <= 20_000


def test_a_sheet_drops_the_pictures_of_older_turns(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    talk = [*question(*urls("orange")), {"role": "assistant", "content": "ok"}, *question(*urls("red", "blue"))]
    response = served.chat("laying-out", messages=talk)
    notices = "1 picture(s) of older turns dropped, 2 pictures laid out on one sheet"
    assert response.headers["x-tuwen-notice"].replace("; ", ", ") == notices
    assert places_of(sheet_of(upstream), "orange") is None


def test_one_picture_needs_no_sheet(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    red = picture((80, 60))
    response = served.chat("laying-out", messages=question(data_url(red)))
    assert "x-tuwen-notice" not in response.headers
    assert upstream.requests[0].pictures == [red]


def test_a_picture_seen_on_a_sheet_is_sent_alone_as_it_came(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    large = picture((3000, 2000), colour="blue")
    served.chat("laying-out", messages=question(data_url(large), *urls("red")))
    served.chat("laying-out", messages=question(data_url(large)))
    assert upstream.requests[1].pictures == [large]


def test_a_broken_picture_of_several_is_named(served: Served, upstream: Upstream) -> None:
    response = served.chat("laying-out", messages=question(*urls("red"), data_url(picture()[:-30])))
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].content[1].image_url.url"
    assert upstream.requests == []


def test_more_pictures_than_a_sheet_holds_are_refused(served: Served, upstream: Upstream) -> None:
    response = served.chat("laying-out", messages=question(*urls(*["red"] * 17, size=(32, 32))))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "messages[0].content[16].image_url.url")
    assert error["message"] == "This model takes 16 picture(s) per message, the newest has 17; send 16 at most."
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            "This model takes 1 picture(s) per message, the newest has 2; send 1 at most, or ask the operator for"
            ' multi_image = "montage".',
        ),
        (
            "zh-CN",
            "此模型每条消息最多接受 1 张图片，最新一条有 2 张；请最多发送 1 张，或请管理员为此模型设置"
            ' multi_image = "montage"。',
        ),
    ],
)
def test_a_model_that_lays_nothing_out_says_what_to_do(
    served: Served, upstream: Upstream, language: str, words: str
) -> None:
    body = {"model": "refusing", "messages": question(*urls("red", "blue"))}
    response = served.client.post("/v1/chat/completions", json=body, headers={"accept-language": language})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == words
    assert upstream.requests == []


def test_a_model_that_needs_a_picture_gets_a_blank_one(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    response = served.chat("always-seeing", messages=[{"role": "user", "content": "你好"}])
    assert response.headers["x-tuwen-notice"] == "a blank picture added: this model takes none without"
    blank = sheet_of(upstream)
    assert (blank.format, blank.size) == ("PNG", (256, 256))
    assert blank.convert("RGB").getcolors() == [(256 * 256, (255, 255, 255))]
    [message] = upstream.requests[0].json["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text"]
    assert served.booked(response).image_count == 1


def test_a_model_that_needs_a_picture_and_has_one_gets_no_other(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    red = picture((80, 60))
    talk = [*question(data_url(red)), {"role": "assistant", "content": "red"}, {"role": "user", "content": "sure?"}]
    response = served.chat("always-seeing", messages=talk)
    assert "x-tuwen-notice" not in response.headers
    assert upstream.requests[0].pictures == [red]


def test_words_alone_go_to_the_model_for_text(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    response = served.chat("two-minds", messages=[{"role": "user", "content": "hi"}])
    assert "x-tuwen-notice" not in response.headers
    assert upstream.requests[0].pictures == []
    assert upstream.requests[0].json["model"] == "words-only"
    assert served.booked(response).backend_model == "words-only"


def test_a_question_after_a_picture_goes_to_the_model_with_eyes(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    talk = [*question(*urls("red")), {"role": "assistant", "content": "red"}, {"role": "user", "content": "sure?"}]
    response = served.chat("two-minds", messages=talk)
    assert upstream.requests[0].json["model"] == "eyes"
    assert served.booked(response).backend_model == "eyes"


def test_the_oldest_turns_go_and_their_picture_stays(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    red = picture((80, 60))
    talk: list[dict[str, Any]] = [{"role": "system", "content": "be brief"}, *question(data_url(red), text="长" * 300)]
    for number in range(4):
        answer, further = {"role": "assistant", "content": "答" * 150}, {"role": "user", "content": f"{number}?"}
        talk += [answer, further]
    response = served.chat("always-seeing", messages=talk)
    assert response.headers["x-tuwen-notice"] == "1 oldest turn(s) dropped"
    messages = upstream.requests[0].json["messages"]
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert texts_of(messages[0]) == ["be brief"]
    assert texts_of(messages[1]) == ["0?"]
    assert texts_of(messages[-1]) == ["3?"]
    assert upstream.requests[0].pictures == [red]


def test_a_wish_for_length_is_cut_to_what_the_conversation_leaves(served: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"), openai.answer("ok"))
    served.chat("always-seeing", messages=question(*urls("red"), text="长" * 150), max_tokens=8000)
    served.chat("always-seeing", messages=question(*urls("red"), text="长" * 150))
    served.chat("two-minds", messages=[{"role": "user", "content": "长" * 1200}], max_tokens=8000)
    limits = [request.json.get("max_tokens") for request in upstream.requests]
    assert limits == [1000 - 411, None, 256]
