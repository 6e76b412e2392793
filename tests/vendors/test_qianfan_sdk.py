"""Baidu's own SDK, unmodified: as a client of ours, where we serve 智慧图问; and of servers that we ask as well."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from app.accounts.vendor_keys import VendorKeys
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.fakes import qianfan
from tests.fakes.baidu import Baidu
from tests.fakes.upstream import Upstream
from tests.support.gateway import running_gateway
from tests.support.server import serving
from tests.vendors.conftest import Shown, run_sdk
from tests.vendors.test_ccai_sdk import read

WAYS = ("oauth", "iam")
SAMPLES = Path(__file__).parents[2] / "samples" / "pictures"
BOS_PICTURE = "https://my-bucket.bj.bcebos.com/in/receipt.jpeg"

MODELS = """
[backends.chatocr]
kind = "chatocr"
base_url = "{url}"
endpoint = "testxxx"
api_key = "{api_key}"
secret_key = "{secret_key}"
bos_only = false

[models.m]
routes = [{{ backend = "chatocr", model = "uuid-chatocr" }}]
"""

Sessions = dict[str, dict[str, Any]]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """A test's own requests are no news."""


@pytest.fixture(scope="module")
def picture_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the head of the sample receipt can be fetched: few words, so that reading it takes little."""
    folder = tmp_path_factory.mktemp("host")
    with Image.open(SAMPLES / "receipt.jpg") as receipt:
        receipt.crop((0, 0, receipt.width, receipt.height // 5)).save(folder / "receipt.jpeg", quality=95)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/receipt.jpeg"
        server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, picture_url: str) -> tuple[Sessions, str, str]:
    """What the SDK made of each session with our gateway; and the gateway's log, and the secret."""
    data_dir = tmp_path_factory.mktemp("data")
    port = urlsplit(picture_url).port
    environment = {"TUWEN_FETCH_ALLOW": f"127.0.0.1/32:{port}", "TUWEN_LOG_LEVEL": "debug"}
    with running_gateway(data_dir, environment) as gateway:
        ak = asyncio.run(_key_id(data_dir))
        sk = VendorKeys(server_secret(data_dir, None)).secret_key(ak, 1)
        (sessions,) = run_sdk("sdk_qianfan_plugin.py", gateway.root_url, ak, sk, picture_url)
    return sessions, "".join(gateway.output), sk


async def _key_id(data_dir: Path) -> str:
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        (key,) = await store.keys()
        return key.id
    finally:
        await store.aclose()


@pytest.mark.parametrize("way", WAYS)
def test_plugin_reads_our_whole_answer(served: tuple[Sessions, str, str], shown: Shown, way: str) -> None:
    sessions, _, _ = served
    plain, verbose = sessions[f"{way} whole"]["answer"], sessions[f"{way} whole verbose"]["answer"]
    assert isinstance(plain["log_id"], int)
    assert "meta_info" not in plain
    assert plain["result"] == verbose["result"] == sessions[f"{way} async whole"]["answer"]["result"]
    assert len(plain["result"]) > 5
    check_meta(verbose["meta_info"], verbose["result"])
    shown("Baidu's unmodified SDK against 智慧图问 as we serve it", sessions=3)


@pytest.mark.parametrize("way", WAYS)
def test_plugin_reads_our_stream(served: tuple[Sessions, str, str], shown: Shown, way: str) -> None:
    sessions, _, _ = served
    whole = sessions[f"{way} whole"]["answer"]["result"]
    packets = sessions[f"{way} streamed"]["answer"]
    assert "".join(packet["result"] for packet in packets) == whole
    assert [packet["is_end"] for packet in packets] == [False] * (len(packets) - 1) + [True]
    assert [packet["sentence_id"] for packet in packets] == list(range(len(packets)))
    for name in (f"{way} streamed verbose", f"{way} async streamed"):
        echo, *packets = sessions[name]["answer"]
        check_meta(echo, whole)
        assert "".join(packet["result"] for packet in packets) == whole
    shown("Baidu's unmodified SDK against 智慧图问 as we serve it", sessions=3)


def check_meta(meta: dict[str, Any], said: str) -> None:
    """Everything the vendor's page has under `meta_info`, and the picture's words where they stand."""
    assert meta["plugin_id"] == "uuid-chatocr"
    assert meta["request"] == {"query": "图里写了什么?", "filename": "receipt.jpeg"}
    response = meta["response"]
    assert (response["error_no"], response["error_msg"], response["format"]) == (0, "success", "json")
    assert isinstance(response["logid"], int)
    assert response["result"]["llm_result"] == said
    regions = response["result"]["ocr_result"]
    assert regions
    for region in regions:
        assert region["word"] in said
        assert set(region["rect"]) == {"left", "top", "width", "height"}
        assert all(isinstance(value, int) for value in region["rect"].values())


@pytest.mark.parametrize("way", WAYS)
def test_plugin_is_told_of_errors_as_by_the_vendor(served: tuple[Sessions, str, str], shown: Shown, way: str) -> None:
    sessions, _, _ = served
    codes = {
        "long query": 216100,
        "long query streamed": 216100,
        "four plugins": 337008,
        "broken picture": 216203,
    }
    for name, code in codes.items():
        made = sessions[f"{way} {name}"]
        assert (made["raised"], made["code"]) == ("APIError", code), name
    for name in ("wrong secret", "wrong secret streamed", "unknown key"):
        assert "raised" in sessions[f"{way} {name}"], name
    assert sessions[f"{way} options"]["answer"]["result"]
    shown("Baidu's unmodified SDK against 智慧图问 as we serve it", sessions=len(codes) + 4)


def test_plugin_gets_a_new_token_by_itself(served: tuple[Sessions, str, str], shown: Shown) -> None:
    sessions, log, sk = served
    assert sessions["stale token"]["answer"]["result"]
    assert sk not in log
    assert "24." not in log
    shown("Baidu's unmodified SDK against 智慧图问 as we serve it", sessions=1)


@pytest.mark.parametrize("way", WAYS)
def test_answers_of_the_vendor_read_alike(tmp_path: Path, shown: Shown, way: str) -> None:
    baidu = Baidu(bos_only=False, says=("通知书上的大学是", "某某大学。", "🎓"))
    ak, sk = baidu.api_key, baidu.secret_key
    if way == "iam":
        ak, sk = baidu.access_key_id, baidu.secret_access_key
    with Upstream().in_thread() as up:
        up.otherwise(baidu)
        (sessions,) = run_sdk("sdk_qianfan_plugin.py", up.url, ak, sk, BOS_PICTURE)
        models = MODELS.format(url=up.url, api_key=baidu.api_key, secret_key=baidu.secret_key)
        with serving(tmp_path, models, public_url="https://pictures.example") as gateway:
            ours = gateway.chat().json()["choices"][0]["message"]["content"]
    theirs = sessions[f"{way} whole"]["answer"]["result"]
    streamed = "".join(packet.get("result", "") for packet in sessions[f"{way} streamed"]["answer"])
    assert ours == theirs == streamed == "".join(baidu.says)
    shown("the vendors' own code and our translators read the same exchanges", chatocr=2)


@pytest.mark.parametrize("way", WAYS)
def test_vendor_refuses_what_is_not_signed_right(shown: Shown, way: str) -> None:
    baidu = Baidu(now=lambda: time.time() + (3600 if way == "iam" else 0))
    ak, sk = (baidu.api_key, baidu.secret_key) if way == "oauth" else (baidu.access_key_id, baidu.secret_access_key)
    with Upstream().in_thread() as up:
        up.otherwise(baidu)
        (sessions,) = run_sdk("sdk_qianfan_plugin.py", up.url, ak, sk, BOS_PICTURE)
    assert "raised" in sessions[f"{way} wrong secret"]
    assert "raised" in sessions[f"{way} unknown key"]
    assert ("raised" in sessions[f"{way} whole"]) == (way == "iam"), "an hour off, a signature is no longer good"
    shown("servers refuse wrong secrets, stale dates and used nonces, as documented", baidu=2 + (way == "iam"))


QIANFAN_MODELS = """
[backends.q]
kind = "qianfan"
base_url = "{url}/v2"
api_key = "bce-v3/ALTAK-fake/fake"

[models.m]
routes = [{{ backend = "q", model = "deepseek-vl2" }}]
"""
ANSWERS = {
    "whole": qianfan.answer("一只猫"),
    "cut": qianfan.answer("一只", finish_reason="length"),
    "streamed": qianfan.stream("一只", "猫", "🐈"),
    "long": qianfan.stream(*["这是一段很长的回答。" * 20 for _ in range(100)]),
}
FAULTS = {
    "rpm_rate_limit_exceeded": (429, 429),
    "invalid_image_url": (400, 400),
    "account_overdue": (403, 502),
    "internal_error": (500, 503),
}


def test_answers_of_qianfan_read_alike(tmp_path: Path, shown: Shown) -> None:
    with Upstream().in_thread() as up:
        up.answer(*ANSWERS.values())
        kinds = ["streamed" if b"[DONE]" in answer.wire else "whole" for answer in ANSWERS.values()]
        theirs = run_sdk("sdk_qianfan_chat.py", up.url, stdin="\n".join(kinds))
        up.answer(*ANSWERS.values())
        with serving(tmp_path, QIANFAN_MODELS.format(url=up.url)) as gateway:
            for kind, made in zip(kinds, theirs, strict=True):
                stream = kind == "streamed"
                answer = gateway.chat(stream=stream, stream_options={"include_usage": True} if stream else None)
                text, _, input_tokens, output_tokens = read(answer.text, stream=stream)
                assert (text, input_tokens, output_tokens) == (made["text"], made["input"], made["output"])
    shown("the vendors' own code and our translators read the same exchanges", qianfan=len(ANSWERS))


def test_faults_of_qianfan_are_faults_to_both(tmp_path: Path, shown: Shown) -> None:
    refusals = [qianfan.error(status, code) for code, (status, _) in FAULTS.items()]
    with Upstream().in_thread() as up:
        up.answer(*refusals)
        theirs = run_sdk("sdk_qianfan_chat.py", up.url, stdin="\n".join(["whole"] * len(FAULTS)))
        assert all(code in json.dumps(made) for code, made in zip(FAULTS, theirs, strict=True)), theirs
        up.answer(*refusals)
        with serving(tmp_path, QIANFAN_MODELS.format(url=up.url), attempts=1) as gateway:
            assert [gateway.chat().status_code for _ in FAULTS] == [status for _, status in FAULTS.values()]
    shown("the vendors' own code and our translators read the same exchanges", qianfan_faults=len(FAULTS))
