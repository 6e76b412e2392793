"""The scripted Spark must refuse what the service refuses, or tests of its client prove nothing."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.fakes import spark
from tests.fakes.http import Gate, Received, Reply
from tests.fakes.spark import SparkAccount
from tests.fakes.spark_request import Fault, check, size_of
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply
from tests.media.pictures import file_of, four_colours


def png(width_px: int, height_px: int) -> bytes:
    return file_of(four_colours(width_px, height_px), "PNG")


def jpeg(width_px: int, height_px: int) -> bytes:
    return file_of(four_colours(width_px, height_px), "JPEG")


# the vectors of «WebSocket协议通用鉴权URL生成说明» and of clients that are known to work
KEY, SECRET = "0123456789abcdef0123456789abcdef", "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk="
HOST, DATE, DATE_S = "spark-api.cn-huabei-1.xf-yun.com", "Mon, 06 May 2024 04:34:56 GMT", 1714970096.0
SIGNATURE = "xsIzW2xsxcxa6KO9YWoKvjIfDX9vwvsnASSDkwa+huU="
UTC_DATE, UTC_SIGNATURE = "Mon, 06 May 2024 04:34:56 UTC", "8alEBkLFI8bCetw4uCrdDF2Lm6Fh0TJTwFYF9rU70cI="
DOC_KEY, DOC_SECRET = "addd2272b6d8b7c8abdd79531420ca3b", "MjlmNzkzNmZkMDQ2OTc0ZDdmNGE2ZTZi"
DOC_DATE, DOC_DATE_S = "Fri, 05 May 2023 10:43:39 GMT", 1683283419.0
DOC_SIGNATURE = "z5gHdu3pxVV4ADMyk467wOWDQ9q6BQzR3nfMTjc/DaQ="

PICTURE = {"role": "user", "content": base64.b64encode(png(60, 60)).decode(), "content_type": "image"}
QUESTION = {"role": "user", "content": "图里有什么?", "content_type": "text"}


def origin(key: str = KEY, signature: str = SIGNATURE, *, named: str = "api_key", gap: str = " ") -> str:
    """What is encoded as `authorization`."""
    return (
        f'{named}="{key}", algorithm="hmac-sha256",{gap}headers="host date request-line",{gap}signature="{signature}"'
    )


def asked(signed: str | None, *, path: str = "/v2.1/image", date: str = DATE, host: str | None = HOST) -> Received:
    """A handshake."""
    query = {} if signed is None else {"authorization": base64.b64encode(signed.encode()).decode()}
    query |= {"date": date} | ({} if host is None else {"host": host})
    return Received("GET", path, urlencode(query), {"upgrade": "websocket"}, b"", 1)


def answered(request: Received, *, key: str = KEY, secret: str = SECRET, now: float = DATE_S) -> Reply | WsReply:
    return SparkAccount("app", key, secret, clock=lambda: now).serving(spark.whole("好"))(request)


def message(*texts: Mapping[str, Any], header: Mapping[str, Any] | None = None, **chat: Any) -> dict[str, Any]:
    """A request; of a picture and a question where no texts are given."""
    return {
        "header": {"app_id": "app", "uid": "u" * 32} if header is None else header,
        "parameter": {"chat": {"domain": "imagev3", **chat}},
        "payload": {"message": {"text": list(texts or (PICTURE, QUESTION))}},
    }


def code_of(request: Any, path: str = "/v2.1/image") -> int:
    """The code it is refused by, 0 where it passes."""
    try:
        check(path, request if isinstance(request, bytes) else json.dumps(request).encode(), "app")
    except Fault as fault:
        return fault.code
    return 0


def picture(data: bytes, **changes: Any) -> dict[str, Any]:
    return {**PICTURE, "content": base64.b64encode(data).decode(), **changes}


def header_of_png(width_px: int, height_px: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width_px, height_px)


@pytest.mark.parametrize(
    "request_",
    [
        asked(origin()),
        asked(origin(gap=" " * 9)),
        asked(origin(named="hmac username")),
        asked(origin(signature=UTC_SIGNATURE, named="hmac username"), date=UTC_DATE),
    ],
    ids=["as documented", "nine spaces", "hmac username", "UTC"],
)
def test_signatures_of_all_working_clients_pass(request_: Received) -> None:
    assert isinstance(answered(request_), WsReply)


def test_the_published_sample_passes() -> None:
    request = asked(origin(DOC_KEY, DOC_SIGNATURE), path="/v1.1/chat", date=DOC_DATE, host="spark-api.xf-yun.com")
    assert isinstance(answered(request, key=DOC_KEY, secret=DOC_SECRET, now=DOC_DATE_S), WsReply)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (asked(None), 401, "Unauthorized"),
        (asked("nothing of the kind"), 401, "HMAC signature cannot be verified"),
        (asked(origin().replace("hmac-sha256", "hmac-sha1")), 401, "HMAC signature cannot be verified"),
        (asked(origin().replace("host date", "host")), 401, "HMAC signature cannot be verified"),
        (asked(origin(), host=None), 401, "HMAC signature cannot be verified"),
        (asked(origin(key="other")), 401, "HMAC signature cannot be verified: fail to retrieve credential"),
        (asked(origin(signature=UTC_SIGNATURE)), 401, "HMAC signature does not match"),
        (asked(origin(), path="/v3.5/chat"), 401, "HMAC signature does not match"),
        (asked(origin(), host="elsewhere.test"), 401, "HMAC signature does not match"),
        (asked(origin(), date=UTC_DATE), 401, "HMAC signature does not match"),
        (asked(origin(), date="2024-05-06T04:34:56Z"), 403, spark.BAD_DATE),
        (asked(origin(), date=""), 403, spark.BAD_DATE),
    ],
)
def test_handshakes_are_refused_as_the_service_refuses_them(request_: Received, status: int, words: str) -> None:
    reply = answered(request_)
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.wire)) == (status, {"message": words})


def test_authorization_that_is_not_base64_cannot_be_verified() -> None:
    request = Received("GET", "/v2.1/image", "authorization=%ff&date=x&host=y", {"upgrade": "websocket"}, b"", 1)
    reply = answered(request)
    assert isinstance(reply, Reply)
    assert json.loads(reply.wire) == {"message": "HMAC signature cannot be verified"}


@pytest.mark.parametrize(("skew_s", "good"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_clocks_may_differ_by_five_minutes(skew_s: float, good: bool) -> None:
    reply = answered(asked(origin()), now=DATE_S + skew_s)
    assert isinstance(reply, WsReply) == good
    assert good or (isinstance(reply, Reply) and reply.status == 403)


def test_plain_request_is_told_to_upgrade() -> None:
    signed = asked(origin())
    reply = answered(Received("GET", signed.path, signed.query, {}, b"", 1))
    assert isinstance(reply, Reply)
    assert reply.status == 426


@pytest.mark.parametrize(
    "request_",
    [
        message(),
        message(temperature=1, top_k=6, max_tokens=8192, auditing="default", chat_id="c"),
        message(temperature=0.01, top_k=1, max_tokens=1, domain="general"),
        message(PICTURE, {"role": "user", "content": "一"}, {"role": "assistant", "content": "二"}, QUESTION),
        message(header={"app_id": "app"}),
        message(picture(jpeg(80, 60)), QUESTION),
        message(picture(header_of_png(12_800, 2_000)), QUESTION),
    ],
)
def test_good_requests_pass(request_: dict[str, Any]) -> None:
    assert code_of(request_) == 0


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"{", 10003),
        (b"\xff", 10003),
        (b"[]", 10004),
        ({**message(), "header": None}, 10004),
        ({**message(), "parameter": {}}, 10004),
        ({**message(), "payload": {"message": {"text": "one"}}}, 10004),
        ({**message(), "payload": {"message": {"text": []}}}, 10004),
        (message(header={}), 10004),
        (message(header={"app_id": "app", "uid": 7}), 10004),
        (message(header={"app_id": "app", "uid": "u" * 33}), 10005),
        (message(header={"app_id": "other"}), 11200),
        (message(domain="generalv3"), 10404),
        (message(temperature="warm"), 10004),
        (message(temperature=0), 10005),
        (message(temperature=1.01), 10005),
        (message(top_k=True), 10004),
        (message(top_k=2.0), 10004),
        (message(top_k=7), 10005),
        (message(max_tokens=0), 10005),
        (message(max_tokens=8193), 10005),
        (message(top_p=0.5), 10004),
        (message(PICTURE, {**QUESTION, "content": ["parts"]}), 10004),
        (message(PICTURE, {"content": "谁?"}), 10004),
        (message(PICTURE, {**QUESTION, "content": ""}), 10005),
        (message(PICTURE, {**QUESTION, "content_type": "video"}), 10005),
        (message(PICTURE, {**QUESTION, "role": "system"}, QUESTION), 10005),
        (message(QUESTION), 10005),
        (message(QUESTION, PICTURE), 10005),
        (message(PICTURE), 10005),
        (message(PICTURE, PICTURE, QUESTION), 10005),
        (message({**PICTURE, "role": "assistant"}, QUESTION), 10005),
        (message(PICTURE, QUESTION, {"role": "assistant", "content": "好"}), 10005),
        (message({**PICTURE, "content": "data:image/png;base64," + PICTURE["content"]}, QUESTION), 10005),
        (message({**PICTURE, "content": "QUJD\nQUJD"}, QUESTION), 10005),
        (message(picture(b"GIF89a" + bytes(20)), QUESTION), 10005),
        (message(picture(b"\xff\xd8\xff"), QUESTION), 10005),
        (message(picture(png(60, 60) + bytes(4 * 1024 * 1024)), QUESTION), 10005),
        (message(picture(header_of_png(12_801, 10)), QUESTION), 10029),
        (message(picture(png(50, 50)), QUESTION), 10041),
        (message(picture(header_of_png(6000, 6000)), QUESTION), 10041),
        (message(PICTURE, {**QUESTION, "content": "长" * 12_300}), 10907),
        (message(PICTURE, {**QUESTION, "content": "word " * 6_560}), 10907),
    ],
)
def test_bad_requests_are_refused_by_their_code(request_: Any, code: int) -> None:
    assert code_of(request_) == code


@pytest.mark.parametrize(
    ("path", "domain", "tokens"),
    [
        ("/v1.1/chat", "lite", 8192),
        ("/v3.1/chat", "generalv3", 8192),
        ("/v3.5/chat", "generalv3.5", 8192),
        ("/v4.0/chat", "4.0Ultra", 8192),
        ("/chat/pro-128k", "pro-128k", 131_072),
        ("/chat/max-32k", "max-32k", 32_768),
    ],
)
def test_each_text_model_lives_at_its_address(path: str, domain: str, tokens: int) -> None:
    system = {"role": "system", "content": "说中文。"}
    assert code_of(message(system, {"role": "user", "content": "你好"}, domain=domain), path) == 0
    assert code_of(message(QUESTION, domain="4.0ultra"), path) == 10404
    assert code_of(message(QUESTION, domain=domain), "/v2.1/image") == 10404
    assert code_of(message(QUESTION, domain=domain), "/v9/chat") == 10404
    assert code_of(message(PICTURE, QUESTION, domain=domain), path) == 10005
    long = {"role": "user", "content": "长" * int(tokens * 1.5)}
    assert code_of(message(long, domain=domain), path) == 0
    assert code_of(message(QUESTION, long, QUESTION, domain=domain), path) == 10907


@pytest.mark.parametrize(("data", "size"), [(png(70, 50), (70, 50)), (jpeg(90, 64), (90, 64))])
def test_sizes_are_read_from_headers(data: bytes, size: tuple[int, int]) -> None:
    assert size_of(data) == size


def test_stream_counts_its_frames_and_ends_with_usage() -> None:
    gate = Gate()
    first, second, third, last = (
        json.loads(step) if isinstance(step, str) else step for step in spark.stream("你", gate, None, "好")
    )
    assert (first["payload"]["choices"]["status"], first["header"]["status"]) == (0, 0)
    assert second is gate
    assert (third["payload"]["choices"]["text"], third["payload"]["choices"]["seq"]) == ([], 1)
    assert last["payload"]["choices"]["text"][0]["content"] == "好"
    assert (last["payload"]["choices"]["status"], last["header"]["status"]) == (2, 2)
    assert last["payload"]["usage"] == {"text": spark.USAGE}


def test_stream_may_lack_its_end() -> None:
    (only,) = spark.stream("你", finish=False)
    assert isinstance(only, str)
    assert json.loads(only)["payload"]["choices"]["status"] == 0
    (odd,) = spark.stream("好", header_status=0, usage=None)
    assert isinstance(odd, str)
    assert (json.loads(odd)["header"]["status"], json.loads(odd)["payload"]["choices"]["status"]) == (0, 2)
    assert "usage" not in json.loads(odd)["payload"]


async def test_requests_that_pass_get_the_answers_in_order() -> None:
    account = SparkAccount("app", KEY, SECRET, clock=lambda: DATE_S)
    query = asked(origin()).query
    async with Upstream() as up, aiohttp.ClientSession() as client:
        up.otherwise(account.serving(spark.whole("一"), spark.error(10013, status=None), spark.whole("三")))
        heard = []
        for request in (message(), message(temperature=0), message(), message(), message()):
            async with client.ws_connect(f"{up.ws_url}/v2.1/image?{query}", max_msg_size=0) as socket:
                await socket.send_json(request)
                answer = await socket.receive_json()
            heard.append(answer["header"]["code"] or answer["payload"]["choices"]["text"][0]["content"])
        assert heard == ["一", 10005, 10013, "三", "三"]
        assert spark.picture_of(up.requests[0]) == png(60, 60)
