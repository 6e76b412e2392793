"""Errors are told in the caller's language."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.api.language import language_of
from tests.fakes import qianfan
from tests.fakes.upstream import Upstream
from tests.support.server import events_of, serving

MODELS = """
[backends.q]
kind = "qianfan"
base_url = "{url}/v2"
api_key = "bce-v3/k"

[models.m]
routes = [{{ backend = "q", model = "deepseek-vl2" }}]
"""


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("ZH-Hans-CN", "zh"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("en;q=0.2, zh-TW;q=0.7", "zh"),
        ("de,fr;q=0.5", "en"),
        ("de, zh;q=0.1", "zh"),
        ("*", "en"),
        ("zh;q=0", "en"),
        ("zh;q=nonsense", "en"),
        ("zh;q=7", "en"),
        ("zh;level=1", "zh"),
        ("zho", "en"),
        (",;,", "en"),
        ("en,zh", "en"),
        ("x" * 100_000 + ",zh", "en"),
    ],
)
def test_language_follows_the_header(header: str, language: str) -> None:
    assert language_of(header) == language


@pytest.mark.parametrize(("header", "word"), [("zh-CN,zh;q=0.9", "图片"), ("en", "picture"), ("fr", "picture")])
def test_vendor_fault_is_told_in_the_language_asked_for(tmp_path: Path, header: str, word: str) -> None:
    with Upstream().in_thread() as up:
        up.answer(qianfan.error(400, "invalid_image_url"))
        with serving(tmp_path, MODELS.format(url=up.url)) as gateway:
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            answer = gateway.client.post("/v1/chat/completions", json=body, headers={"accept-language": header})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "backend_refused")
    assert word in error["message"]
    assert "scripted" not in answer.text
    assert answer.headers["content-language"] == ("zh" if header.startswith("zh") else "en")
    assert "Accept-Language" in answer.headers["vary"]


def test_fault_in_mid_stream_is_told_in_the_language_asked_for(tmp_path: Path) -> None:
    broken = qianfan.Reply(200, qianfan.SSE, [qianfan.chunk({"content": "早"}), qianfan.event({"error_code": 336100})])
    with Upstream().in_thread() as up:
        up.answer(broken)
        with serving(tmp_path, MODELS.format(url=up.url)) as gateway:
            body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            answer = gateway.client.post("/v1/chat/completions", json=body, headers={"accept-language": "zh"})
    *_, last = events_of(answer.text)
    assert json.loads(last)["error"]["message"] == "百度服务负载过高：请稍后重试。"
