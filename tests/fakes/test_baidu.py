"""Baidu's double judges as Baidu does: by its published vectors, and by what its pages forbid."""

from __future__ import annotations

import base64
import io
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image

from tests.fakes.baidu import LOG_ID, OCR_PATH, PLUGIN_PATH, Baidu
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream

SIGNED_AT = 1714970096.0  # 2024-05-06T04:34:56Z
PATH = f"{PLUGIN_PATH}testxxx/"
PREFIX = "bce-auth-v1/ALTAKfakefakefakefake01/2024-05-06T04:34:56Z"
B2 = f"{PREFIX}/1800/host;x-bce-date/973b3cee5c0763940e1dc36662bdd0b576402af24e6bf2b705c486266aea671d"
B3 = f"{PREFIX}/1800/content-type;host;x-bce-date/053ccf932dc13c0a5e84d128b9f4641825be15abcd4494e7b50ae366038a5fee"
B3_SHUFFLED = B3.replace("content-type;host;x-bce-date", "x-bce-date;content-type;host")
B4 = f"{PREFIX}/300/content-type;host;x-bce-date/f345108d321e1fbd927a7ff02654d504ca3b7b49df0dbfdee1bfe16408a9db15"
B6 = f"{PREFIX}/1800/host;x-bce-date/cf77a4b71479716b63d7d07e3a51f1fb6ccc21dbef4656a782468b60e95fd2c4"
HEADERS = {"host": "aip.baidubce.com", "content-type": "application/json", "x-bce-date": "2024-05-06T04:34:56Z"}
BODY = {"query": "?", "plugins": ["uuid-chatocr"], "fileurl": "https://b.bj.bcebos.com/a.jpeg"}


def received(path: str = PATH, body: Any = BODY, query: str = "", method: str = "POST", **headers: str) -> Received:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Received(method, path, query, HEADERS | named, content, 1)


def answer(reply: Reply) -> Any:
    return json.loads(reply.wire)


@pytest.fixture
def baidu() -> Baidu:
    return Baidu(now=lambda: SIGNED_AT)


@pytest.fixture
def token(baidu: Baidu) -> str:
    """As a query."""
    query = urlencode({"grant_type": "client_credentials", "client_id": "k" * 24, "client_secret": "s" * 32})
    return f"access_token={answer(baidu(received('/oauth/2.0/token', b'{}', query)))['access_token']}"


@pytest.mark.parametrize("authorization", [B2, B3, B3_SHUFFLED, B4], ids=["B2", "B3", "any order", "B4"])
def test_published_signatures_are_good(baidu: Baidu, authorization: str) -> None:
    assert answer(baidu(received(authorization=authorization)))["log_id"] == LOG_ID


def test_a_published_signature_of_a_query_is_good(baidu: Baidu) -> None:
    query = "text=&text1=%E6%B5%8B%E8%AF%95&text10=test"
    reply = baidu(received(f"{OCR_PATH}general_basic", b"", query, authorization=B6))
    assert answer(reply)["error_code"] == 216100, "past the signature, it misses its form"


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"authorization": B2.replace("fake01", "fake02")}, 403, "NotFound"),
        ({"authorization": B2[:-1] + "0"}, 403, "SignatureDoesNotMatch"),
        ({"authorization": B2, "host": "aip.baidubce.com:443"}, 403, "SignatureDoesNotMatch"),
        ({"authorization": B2, "x_bce_date": "2024-05-06T04:34:57Z"}, 400, "The HTTP authorization"),
        ({"authorization": B2.replace("host;", "")}, 400, "The HTTP authorization"),
        ({"authorization": "Bearer x"}, 400, "The HTTP authorization"),
    ],
)
def test_a_wrong_signature_is_refused_in_headers(baidu: Baidu, changed: dict[str, str], status: int, code: str) -> None:
    reply = baidu(received(**changed))
    assert reply.status == status
    assert reply.headers["x-bce-error-message"].startswith(code)
    assert reply.headers["x-bce-error-code"] == answer(reply)["code"]


@pytest.mark.parametrize(
    ("late_s", "authorization", "good"),
    [(1800, B3, True), (1801, B3, False), (299, B4, True), (301, B4, False), (-900, B3, True), (-901, B3, False)],
)
def test_a_signature_is_good_for_its_time(late_s: int, authorization: str, good: bool) -> None:
    reply = Baidu(now=lambda: SIGNED_AT + late_s)(received(authorization=authorization))
    assert (reply.status == 200) is good
    assert good or reply.headers["x-bce-error-code"] == "RequestExpired"


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"grant_type": "client_credentials", "client_id": "x"}, 401, "unknown client id"),
        (
            {"grant_type": "client_credentials", "client_id": "k" * 24, "client_secret": "x"},
            401,
            "Client authentication failed",
        ),
        ({"grant_type": "password"}, 400, "grant type"),
    ],
)
def test_wrong_keys_get_no_token(baidu: Baidu, query: dict[str, str], status: int, words: str) -> None:
    reply = baidu(received("/oauth/2.0/token", b"", urlencode(query)))
    assert reply.status == status
    assert answer(reply)["error_description"] == words


def test_tokens_are_refused_once_ended_and_new_ones_are_not(baidu: Baidu, token: str) -> None:
    assert "result" in answer(baidu(received(query=token)))
    baidu.end_tokens()
    assert answer(baidu(received(query=token)))["error_code"] == 111
    baidu.end_tokens(110)
    assert answer(baidu(received(query=token)))["error_code"] == 110
    assert answer(baidu(received(query="")))["error_code"] == 110


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"query": ""}, 336003),
        ({"query": "x" * 1001}, 336003),
        ({"plugins": ["a", "b", "c", "d"]}, 337008),
        ({"plugins": None}, 337008),
        ({"stream": "yes"}, 216100),
        ({"llm": [1]}, 216100),
        ({"fileurl": "https://b.bj.bcebos.com/a"}, 216100),
        ({"fileurl": "https://evilbcebos.com/a.png"}, 216100),
        ({"fileurl": None}, 216100),
        ({"history": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}, 336003),
        ({"history": [{"role": "user", "content": "a"}]}, 336003),
    ],
)
def test_the_plugin_refuses_what_its_page_forbids(baidu: Baidu, token: str, change: dict[str, Any], code: int) -> None:
    assert answer(baidu(received(body=BODY | change, query=token)))["error_code"] == code
    assert baidu.asked == []


def test_only_documented_paths_are_there(baidu: Baidu, token: str) -> None:
    assert answer(baidu(received(PATH.rstrip("/"), query=token)))["error_code"] == 3
    assert answer(baidu(received("/other", query=token)))["error_code"] == 3
    assert answer(baidu(received(f"{OCR_PATH}handwriting", query=token)))["error_code"] == 3
    assert answer(baidu(received(method="GET", query=token)))["error_code"] == 336101
    assert answer(baidu(received(body=b"{", query=token)))["error_code"] == 336002
    assert answer(baidu(received(query=token, content_type="text/plain")))["error_code"] == 336002


def test_an_echo_comes_only_where_asked_for(baidu: Baidu, token: str) -> None:
    plain = baidu(received(body=BODY | {"stream": True}, query=token)).wire.decode()
    verbose = baidu(received(body=BODY | {"stream": True, "verbose": True}, query=token)).wire.decode()
    assert "ocr_result" not in plain
    assert "is_end" not in verbose.split("\n\n")[0]
    assert verbose.count('"is_end": true') == 1
    assert "meta_info" not in answer(baidu(received(query=token)))
    assert "meta_info" in answer(baidu(received(body=BODY | {"verbose": True}, query=token)))


def png(width_px: int, height_px: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width_px, height_px), "white").save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("picture", "code"), [(png(80, 80), None), (png(79, 90), 216203), (png(90, 90, "GIF"), 216203), (b"x", 216203)]
)
def test_a_picture_that_is_fetched_must_be_one_of_eighty_pixels(
    baidu: Baidu, token: str, picture: bytes, code: int | None
) -> None:
    baidu.bos_only, baidu.fetches = False, True
    with Upstream().in_thread() as host:
        host.answer(Reply(200, {"content-type": "image/png"}, [picture]))
        reply = baidu(received(body=BODY | {"fileurl": f"{host.url}/a.PNG?sign=1"}, query=token))
    assert answer(reply).get("error_code") == code
    assert baidu.pictures == ([picture] if code is None else [])


@pytest.mark.parametrize(
    ("picture", "service", "code"),
    [
        (png(15, 20), "general", None),
        (png(14, 20), "general", 216202),
        (png(4097, 20), "general", 216202),
        (png(4097, 20), "accurate", None),
        (png(20, 20, "GIF"), "general", 216201),
        (b"no picture", "general", 216201),
        (b"", "general", 216200),
    ],
)
def test_ocr_refuses_what_its_page_forbids(
    baidu: Baidu, token: str, picture: bytes, service: str, code: int | None
) -> None:
    form = urlencode({"image": base64.b64encode(picture).decode()}).encode()
    request = received(OCR_PATH + service, form, token, content_type="application/x-www-form-urlencoded")
    assert answer(baidu(request)).get("error_code") == code


def test_ocr_bounds_the_form(baidu: Baidu, token: str) -> None:
    form = b"image=" + b"A" * 4_000_000
    request = received(f"{OCR_PATH}general_basic", form, token, content_type="application/x-www-form-urlencoded")
    assert answer(baidu(request))["error_code"] == 216202
