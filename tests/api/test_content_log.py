"""What a key asks and is answered is logged where the key opted in, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.api.pictures import data_url, picture, question
from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.server import Served

Entry = MutableMapping[str, Any]


def asked(served: Served, *, stream: bool = False, text: str = "what is it") -> list[Entry]:
    """The log's entries about one question with a picture."""
    with capture_logs() as entries:
        answer = served.chat(stream=stream, messages=question(data_url(picture()), text=text))
        served.booked(answer)
    return list(entries)


def content(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["event"] == "content"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_opted_in_is_logged(served: Served, upstream: Upstream, stream: bool) -> None:
    key, key_id = served.new_key(log_content=True)
    upstream.answer(openai.stream("一只", "猫") if stream else openai.answer("一只猫"))
    [line] = content(asked(served.as_key(key), stream=stream))
    sent = upstream.requests[0].pictures[0]
    assert line["key_id"] == key_id
    assert line["model"] == "m"
    assert line["outcome"] == "finished"
    assert line["messages"] == [{"role": "user", "text": "what is it"}]
    assert line["answer"] == "一只猫"
    told = {"type": "image/png", "width_px": 64, "height_px": 48, "bytes": len(sent)}
    assert line["pictures"] == [{**told, "sha256": hashlib.sha256(sent).hexdigest()}]
    assert base64.b64encode(sent).decode()[:40] not in repr(line)


@pytest.mark.parametrize("stream", [False, True])
def test_no_other_key_is(served: Served, upstream: Upstream, stream: bool) -> None:
    upstream.answer(openai.stream("一只", "猫") if stream else openai.answer("一只猫"))
    entries = asked(served, stream=stream, text="words-of-the-caller")
    assert not content(entries)
    assert entries, "the request itself is logged"
    assert "words-of-the-caller" not in repr(entries)
    assert "一只" not in repr(entries)


def test_texts_are_cut(served: Served, upstream: Upstream) -> None:
    key, _ = served.new_key(log_content=True)
    upstream.answer(openai.answer("a" * 20_000))
    [line] = content(asked(served.as_key(key), text="q" * 20_000))
    assert line["messages"][0]["text"] == "q" * 4000 + "…"
    assert line["answer"] == "a" * 16_000 + "…"


def test_a_refused_question_is_logged_too(served: Served, upstream: Upstream) -> None:
    key, _ = served.new_key(log_content=True)
    upstream.answer(openai.error(400, code="invalid_request", message="no"))
    [line] = content(asked(served.as_key(key)))
    assert (line["outcome"], line["answer"]) == ("failed", "")


def test_administrators_switch_it_over_http(served: Served) -> None:
    made = served.client.post("/admin/keys", json={"name": "heard", "log_content": True}, headers=served.headers).json()
    assert made["log_content"] is True
    path = f"/admin/keys/{made['id']}"
    changed = served.client.patch(path, json={"log_content": False}, headers=served.headers).json()
    assert changed["log_content"] is False
    wrong = served.client.patch(path, json={"log_content": "yes"}, headers=served.headers)
    assert wrong.status_code == 400
    assert (
        served.client.post("/admin/keys", json={"name": "unheard"}, headers=served.headers).json()["log_content"]
        is False
    )
