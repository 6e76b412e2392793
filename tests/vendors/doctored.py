"""Vendors' servers for `tuwen doctor`: they verify what they are asked, tell their time, and can have a clock that is
off."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, TypeAlias

from tests.fakes import ccai, openai, spark
from tests.fakes.baidu import Baidu
from tests.fakes.ccai import CcaiAccount
from tests.fakes.http import Received, Reply
from tests.fakes.spark import SparkAccount
from tests.fakes.websocket import WsReply

Answering: TypeAlias = Callable[[Received], Reply | WsReply]
Clock: TypeAlias = Callable[[], float]

SECRET = "c0ffee5ec7e7c0ffee5ec7e7c0ffee00"
SPARK_SECRET = "Y2FuYXJ5IG9mIHNwYXJrLCByaWdodCBvbmU="
"""The right secrets of the accounts here, of the vendors' shapes."""
WRONG = {SECRET: "deadbeefca2a3edeadbeefca2a3e0000", SPARK_SECRET: "Y2FuYXJ5IG9mIHNwYXJrLCB3cm9uZyBvbmU="}
"""Others of the same shapes."""
_SPARK_KEY = "0123456789abcdef0123456789abcdef"
_APP_ID = "a070a49c681f4a95a0f0123456789c35"


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor as the doctor meets it.

    Args:
        section: its backend's, with `{url}` for the address; its secret is a key of `WRONG`.
        model: that is asked.
        server: what answers, given its clock.
        unauthorised: words of the probe's line where the secret is wrong, in both languages.
        misshapen: changes to the section that its shapes alone give away.
        unknown: a change to the section, or to `model`, that leads to nothing there.
        skewed_s: how far the server's clock must be off for it to refuse; `None`: it does not look.
    """

    section: Mapping[str, Any]
    model: str
    server: Callable[[Clock], Answering]
    unauthorised: tuple[str, str]
    misshapen: Mapping[str, str]
    unknown: Mapping[str, str]
    skewed_s: float | None = None
    skewed: tuple[str, str] = ("", "")


def _spark(clock: Clock) -> Answering:
    return SparkAccount("a1b2c3d4", _SPARK_KEY, SPARK_SECRET, clock=clock).serving(spark.whole("红"))


def _ccai(clock: Clock) -> Answering:
    account = CcaiAccount("LTAI5tFakeAccessKeyId0000", SECRET, workspace_id="llm-fake123", app_id=_APP_ID, clock=clock)
    return account.serving(ccai.says("红"))


def _baidu(clock: Clock) -> Answering:
    return Baidu(secret_key=SECRET, secret_access_key=SECRET, says=("红",), bos_only=False, now=clock)


def _openai(_: Clock) -> Answering:
    def answered(request: Received) -> Reply:
        if request.key != SECRET:
            return openai.error(401, code="invalid_api_key", message=f"Incorrect API key provided: {request.key}")
        if request.json["model"] != "qwen-vl":
            return openai.error(404, code="model_not_found", message="no such model")
        return openai.stream("红") if request.json.get("stream") else openai.answer("红")

    return answered


_BAIDU_ACCOUNT = {"access_key_id": "ALTAKfakefakefakefake01", "secret_access_key": SECRET}

VENDORS: Mapping[str, Vendor] = {
    "spark": Vendor(
        section={
            "kind": "spark",
            "base_url": "{ws_url}",
            "app_id": "a1b2c3d4",
            "api_key": _SPARK_KEY,
            "api_secret": SPARK_SECRET,
        },
        model="imagev3",
        server=_spark,
        unauthorised=("iFlytek", "讯飞"),
        misshapen={"app_id": "no app"},
        unknown={"model": "imagev9"},
        skewed_s=600,
        skewed=("clock", "时钟"),
    ),
    "ccai": Vendor(
        section={
            "kind": "ccai",
            "base_url": "{url}",
            "access_key_id": "LTAI5tFakeAccessKeyId0000",
            "access_key_secret": SECRET,
            "workspace_id": "llm-fake123",
            "app_id": _APP_ID,
        },
        model="app",
        server=_ccai,
        unauthorised=("AccessKey secret", "AccessKey Secret"),
        misshapen={"workspace_id": "fake123"},
        unknown={"app_id": "0" * 32},
        skewed_s=1200,
        skewed=("clock is off", "时钟偏差"),
    ),
    "chatocr": Vendor(
        section={
            "kind": "chatocr",
            "base_url": "{url}",
            "endpoint": "testxxx",
            "bos_only": False,
            "api_key": "k" * 24,
            "secret_key": SECRET,
        },
        model="uuid-chatocr",
        server=_baidu,
        unauthorised=("Secret Key", "Secret Key"),
        misshapen={"api_key": "k-1"},
        unknown={"endpoint": "elsewhere"},
    ),
    "chatocr-signed": Vendor(
        section={
            "kind": "chatocr",
            "base_url": "{url}",
            "endpoint": "testxxx",
            "bos_only": False,
            **_BAIDU_ACCOUNT,
        },
        model="uuid-chatocr",
        server=_baidu,
        unauthorised=("Access Key and its secret", "签名不匹配"),
        misshapen={"access_key_id": "AK-1"},
        unknown={"endpoint": "else where"},
        skewed_s=-1200,
        skewed=("clock", "时钟"),
    ),
    "baidu-ocr": Vendor(
        section={"kind": "baidu_ocr", "base_url": "{url}", **_BAIDU_ACCOUNT},
        model="general",
        server=_baidu,
        unauthorised=("Access Key and its secret", "签名不匹配"),
        misshapen={"access_key_id": "AK-1"},
        unknown={"model": "particular"},
        skewed_s=-1200,
        skewed=("clock", "时钟"),
    ),
    "openai": Vendor(
        section={"kind": "openai", "base_url": "{url}/v1", "api_key": SECRET},
        model="qwen-vl",
        server=_openai,
        unauthorised=("vendor's code invalid_api_key", "厂商错误码 invalid_api_key"),
        misshapen={},
        unknown={"model": "qwen-vl-9"},
    ),
}


def telling_its_time(server: Callable[[Clock], Answering], ahead_s: float = 0) -> Answering:
    """A server that also answers HEAD, and whose clock is ahead of ours by so much, wherever it looks at it."""

    def clock() -> float:
        return time.time() + ahead_s

    answered = server(clock)

    def answering(request: Received) -> Reply | WsReply:
        if request.method == "HEAD":
            return Reply(404, {"date": formatdate(clock(), usegmt=True)}, (), "length")
        return answered(request)

    return answering
