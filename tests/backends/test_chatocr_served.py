"""智慧图问 through the whole gateway: a caller's picture is published, fetched by the plugin, and answered about."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.baidu import Baidu
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream
from tests.media.pictures import file_of, four_colours
from tests.support.server import Served, events_of, serving

MODELS = """
[backends.b]
kind = "chatocr"
endpoint = "testxxx"
bos_only = false
base_url = "{url}"
access_key_id = "{access_key_id}"
secret_access_key = "{secret_access_key}"

[models.m]
routes = [{{ backend = "b", model = "uuid-chatocr" }}]
tariff = "unknown"
"""
PICTURE = f"data:image/png;base64,{base64.b64encode(file_of(four_colours(40, 60), 'PNG')).decode()}"


@contextmanager
def plugin(folder: Path) -> Iterator[tuple[Served, Baidu]]:
    """A gateway in front of a plugin that fetches its pictures through what stands for the gateway's public address."""
    baidu = Baidu(bos_only=False, fetches=True)
    with Upstream().in_thread() as up, Upstream().in_thread() as public:
        up.otherwise(baidu)
        settings: dict[str, Any] = {"public_url": public.url}
        with serving(folder, MODELS.format(url=up.url, **baidu.account), **settings) as served:

            def passed_on(request: Received) -> Reply:
                answer = served.client.get(f"{request.path}?{request.query}")
                return Reply(answer.status_code, {"content-type": answer.headers["content-type"]}, [answer.content])

            public.otherwise(passed_on)
            yield served, baidu


def asking(text: str, *urls: str) -> list[dict[str, Any]]:
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": text}, *pictures]}]


def test_a_small_picture_sent_as_data_is_made_large_enough_and_fetched_by_the_plugin(tmp_path: Path) -> None:
    with plugin(tmp_path) as (served, baidu):
        answer = served.chat(messages=asking("大学是哪所?", PICTURE), stream=True)
        row = served.booked(answer)
    assert answer.status_code == 200, answer.text
    pieces = [json.loads(event) for event in events_of(answer.text) if event != "[DONE]"]
    text = "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces if piece["choices"])
    assert text == "通知书上的大学是某某大学。"
    assert len(baidu.pictures) == 1, "the double looked at it: 80 pixels at least"
    assert (row.usage_source, row.image_count) == ("estimated", 1)


def test_a_question_without_a_picture_is_asked_about_a_blank_sheet(tmp_path: Path) -> None:
    with plugin(tmp_path) as (served, baidu):
        answer = served.chat(messages=[{"role": "user", "content": "你好"}])
    assert answer.status_code == 200, answer.text
    assert "blank" in answer.headers["x-tuwen-notice"]
    assert baidu.asked[0]["query"] == "你好"


def test_a_question_too_long_is_the_callers_to_mend_and_never_sent(tmp_path: Path) -> None:
    with plugin(tmp_path) as (served, baidu):
        answer = served.chat(messages=asking("字" * 1001, PICTURE))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content"
    assert baidu.asked == []
