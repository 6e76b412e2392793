"""The fake CCAI knows good requests from bad ones: by published vectors, by what the vendor's SDK sends, by damage."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes import ccai
from tests.fakes.ccai import CcaiAccount
from tests.fakes.http import Gate, Received, Reply
from tests.fakes.upstream import Upstream

NOW = datetime(2024, 6, 3, 8, tzinfo=UTC).timestamp()
KEY, SECRET = "LTAI5tFakeAccessKeyId0000", "FakeAccessKeySecret0000000000"
WORKSPACE, APP = "llm-ik1234567890RVYCKzt", "a070a49c681f4a95a0f0123456789c35c"
PATH = f"/{WORKSPACE}/ccai/app/{APP}/generalanalyzeImage"
BODY = '{"customPrompt":"图里有什么?","imageUrls":["https://img.example.com/1.jpg"],"stream":false}'.encode()
HEADERS = {
    "content-type": "application/json; charset=utf-8",
    "host": "contactcenterai.cn-shanghai.aliyuncs.com",
    "x-acs-action": "GeneralAnalyzeImage",
    "x-acs-content-sha256": hashlib.sha256(BODY).hexdigest(),
    "x-acs-date": "2024-06-03T08:00:00Z",
    "x-acs-signature-nonce": "0123456789abcdef0123456789abcdef",
    "x-acs-version": "2024-06-03",
}
SDK = {
    "accept": "application/json",
    "user-agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
    "x-acs-credentials-provider": "static_ak",
}
STS = {"x-acs-accesskey-id": KEY, "x-acs-security-token": "FakeStsToken/000=="}
ANSWER = ccai.says("图里", "有一只猫")


def account(**changes: Any) -> CcaiAccount:
    given: dict[str, Any] = {"workspace_id": WORKSPACE, "app_id": APP, "clock": lambda: NOW, **changes}
    return CcaiAccount(given.pop("key", KEY), given.pop("secret", SECRET), **given)


def request(
    signature: str = "051d5677effcf150295c6da4b2f91a3fcd60d4d3fcc8eaa28ddd2c670cda1bc7",
    *,
    path: str = PATH,
    query: str = "",
    body: bytes = BODY,
    **extra: str,
) -> Received:
    """A request under a signature that is known; the default is that of V1."""
    headers = HEADERS | {name.replace("_", "-"): value for name, value in extra.items()}
    names = ";".join(sorted(headers))
    authorization = f"ACS3-HMAC-SHA256 Credential={KEY},SignedHeaders={names},Signature={signature}"
    return Received("POST", path, query, {**headers, "authorization": authorization}, body, 1)


def signed(body: Any = BODY, *, method: str = "POST", path: str = PATH, secret: str = SECRET, **extra: str) -> Received:
    """A request signed here, for what no vector covers."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    digest = hashlib.sha256(raw).hexdigest()
    headers = HEADERS | {name.replace("_", "-"): value for name, value in extra.items()}
    headers["x-acs-content-sha256"] = digest
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    canonical = f"{method}\n{path}\n\n{lines}\n{';'.join(names)}\n{digest}"
    said = "ACS3-HMAC-SHA256\n" + hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(secret.encode(), said.encode(), hashlib.sha256).hexdigest()
    asked = request(signature, path=path, body=raw, **{**extra, "x_acs_content_sha256": digest})
    return replace(asked, method=method)


def asked(request: Received, by: CcaiAccount | None = None) -> tuple[int, Any]:
    """The status and body of the answer to a request."""
    reply = (by or account()).serving(ANSWER)(request)
    return reply.status, json.loads(reply.wire)


VECTORS = {
    "V1": request(),
    "V3, as the vendor's SDK signs": request("93cd2cfab9a2530aa2fc1f76579e7c95080215dd6c858893a6975994bbefb712", **SDK),
    "V6, with a query": request(
        "fef5b9d0e43f63359c79dbd86f62cc7f0ccfc796c94e0b26615e97f84f6dc1af", query="RegionId=cn-shanghai"
    ),
    "the vendor's SDK against a local port": request(
        "519d5507f48dc78447773897f6c8679e76332e6b600b30350998a8bea894f1c9", host="127.0.0.1:35105", **SDK
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_published_signatures_pass(vector: Received) -> None:
    status, body = asked(vector)
    assert (status, body["text"], body["success"]) == (200, "图里有一只猫", True)
    assert body["totalTokens"] == body["inputTokens"] + body["outputTokens"]


def test_temporary_credentials_pass_with_their_token_only() -> None:
    vector = request("7ac140c4d75f312d2099ab526bce8d6eb61212965834b11d2608f0b832f06455", **STS)
    assert asked(vector, account(security_token="FakeStsToken/000=="))[0] == 200
    assert asked(vector, account(security_token="another"))[1]["Code"] == "InvalidSecurityToken.MismatchWithAccessKey"
    assert asked(vector)[1]["Code"] == "InvalidSecurityToken.MismatchWithAccessKey"
    assert asked(request(), account(security_token="x"))[1]["Code"] == "MissingSecurityToken"


def test_odd_ids_are_compared_decoded() -> None:
    body = (
        b'{"imageUrls":["https://img.example.com/1.jpg","https://img.example.com/2.png"],'
        b'"stream":false,"templateIds":[34]}'
    )
    vector = request(
        "ea585bc5f00193abce2842691bdf436b4d21e2a67b10bc12ca1041b49753f0f5",
        path="/a%20b%2Fc%2B%2A~%E4%B8%AD/ccai/app/x%20y/generalanalyzeImage",
        body=body,
        x_acs_content_sha256=hashlib.sha256(body).hexdigest(),
    )
    assert asked(vector, account(workspace_id="a b/c+*~中", app_id="x y"))[0] == 200


def without(name: str) -> Received:
    """V1 with a header taken out of what it says is signed."""
    good = request()
    authorization = good.headers["authorization"].replace(f";{name};", ";")
    return replace(good, headers={**good.headers, "authorization": authorization})


UNSOUND: dict[str, tuple[Received, int, str]] = {
    "no signature": (replace(request(), headers=HEADERS), 400, "MissingParameter"),
    "another algorithm": (
        replace(
            request(), headers={**HEADERS, "authorization": request().headers["authorization"].replace("3-", "1-")}
        ),
        400,
        "SignatureDoesNotMatch",
    ),
    "a wrong secret": (signed(secret="another"), 400, "SignatureDoesNotMatch"),
    "a body that was changed": (request(body=BODY + b" "), 400, "SignatureDoesNotMatch"),
    "a header left unsigned": (without("x-acs-date"), 400, "SignatureDoesNotMatch"),
    "a header added later": (
        replace(request(), headers={**request().headers, "x-acs-extra": "1"}),
        400,
        "SignatureDoesNotMatch",
    ),
    "a date in words": (signed(x_acs_date="Mon, 03 Jun 2024"), 400, "InvalidTimeStamp.Format"),
    "a date 15 minutes old": (signed(x_acs_date="2024-06-03T07:44:59Z"), 400, "InvalidTimeStamp.Expired"),
    "a date 15 minutes ahead": (signed(x_acs_date="2024-06-03T08:15:01Z"), 400, "InvalidTimeStamp.Expired"),
    "no nonce": (signed(x_acs_signature_nonce=""), 400, "SignatureNonceUsed"),
    "another action": (signed(x_acs_action="RunCompletion"), 404, "InvalidAction.NotFound"),
    "another path": (signed(path=PATH.lower()), 404, "InvalidAction.NotFound"),
    "another method": (signed(method="PUT"), 404, "InvalidAction.NotFound"),
    "another workspace": (signed(path=PATH.replace("llm-", "llm-x")), 403, "CCAI.TenantPermission.NoAuth"),
    "another application": (signed(path=PATH.replace("a070", "b070")), 403, "CCAI.IllegalPermission.NoAuth"),
    "no JSON": (signed(b"{"), 400, "CCAI.ParamInvalid.IllegalParamValue"),
    "no object": (signed([]), 400, "CCAI.ParamInvalid.IllegalParamValue"),
    "no pictures": (signed({"imageUrls": [], "stream": True}), 403, "CCAI.ParamNotfound.MissParam"),
    "no stream": (signed({"imageUrls": ["https://a.test/1"]}), 403, "CCAI.ParamNotfound.MissParam"),
    "an unknown field": (
        signed({"imageUrls": ["https://a.test/1"], "stream": True, "model": "m"}),
        400,
        "CCAI.InvalidParam.NotExist",
    ),
    "a data URL": (
        signed({"imageUrls": ["data:image/png;base64,QQ=="], "stream": True}),
        400,
        "CCAI.ParamInvalid.IllegalParamValue",
    ),
    "a number for a flag": (
        signed({"imageUrls": ["https://a.test/1"], "stream": 1}),
        400,
        "CCAI.ParamInvalid.IllegalParamValue",
    ),
    "a template by name": (
        signed({"imageUrls": ["https://a.test/1"], "stream": True, "templateIds": ["34"]}),
        400,
        "CCAI.ParamInvalid.IllegalParamValue",
    ),
}


@pytest.mark.parametrize(("unsound", "status", "code"), UNSOUND.values(), ids=UNSOUND)
def test_what_is_unsound_is_refused_as_the_service_refuses(unsound: Received, status: int, code: str) -> None:
    answered, body = asked(unsound)
    assert (answered, body["Code"]) == (status, code)


def test_an_unknown_key_is_not_found() -> None:
    assert asked(request(), account(key="LTAIanother"))[1]["Code"] == "InvalidAccessKeyId.NotFound"


def test_a_signature_that_does_not_match_is_answered_by_what_was_signed() -> None:
    _, body = asked(request("0" * 64, **SDK))
    assert "server string to sign is:ACS3-HMAC-SHA256\n" in body["Message"]
    assert "x-acs-signature-nonce:0123456789abcdef0123456789abcdef" in body["Message"]


def test_a_nonce_is_good_once() -> None:
    by = account()
    assert [asked(request(), by)[0] for _ in range(2)] == [200, 400]
    assert asked(request(), by)[1]["Code"] == "SignatureNonceUsed"


def test_a_refused_request_costs_neither_nonce_nor_answer() -> None:
    serving = account().serving(ccai.says("一"), ccai.says("二"))
    assert serving(request("0" * 64)).status == 400
    assert json.loads(serving(request()).wire)["text"] == "一"
    assert json.loads(serving(signed(x_acs_signature_nonce="2")).wire)["text"] == "二"
    assert json.loads(serving(signed(x_acs_signature_nonce="3")).wire)["text"] == "二"


def events(reply: Reply) -> list[dict[str, Any]]:
    blocks = reply.wire.decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(block.rpartition("\ndata:")[2]) for block in blocks]


def test_a_stream_says_the_whole_text_in_every_event() -> None:
    gate = Gate()
    reply = ccai.says("图里", gate, "有一只猫").reply(stream=True)
    assert [event["text"] for event in events(reply)] == ["图里", "图里有一只猫"]
    assert [event["finishReason"] for event in events(reply)] == [None, "stop"]
    assert reply.steps[1] is gate
    assert reply.steps[0] == ccai.event(events(reply)[0])
    assert str(reply.steps[0], "utf-8").startswith("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{")


def test_streams_come_in_every_form_that_clients_report() -> None:
    parts = ccai.says("检测", "完成", deltas=True, space=True).reply(stream=True)
    assert [event["text"] for event in events(parts)] == ["检测", "完成"]
    assert b"\ndata: {" in parts.wire
    assert "finishReason" not in events(ccai.says("a", "b", unfinished="absent").reply(stream=True))[0]
    assert events(ccai.says("a", "b", unfinished="word").reply(stream=True))[0]["finishReason"] == "null"
    assert events(ccai.says("a", "b", finish=None).reply(stream=True))[1]["finishReason"] is None


@pytest.mark.parametrize(("code", "status"), ccai.STATUSES.items())
def test_every_row_of_the_errors_can_be_had(code: str, status: int) -> None:
    reply = account().serving(ccai.error(code, retry_after_ms=1500))(request())
    assert (reply.status, json.loads(reply.wire)["Code"]) == (status, code)
    assert reply.headers["x-acs-retry-after"] == "1500"


def test_the_application_can_fail_with_status_200() -> None:
    reply = ccai.failure("CCAI.InternalError", "scripted")
    assert (reply.status, json.loads(reply.wire)["success"]) == (200, False)


@contextmanager
def pictures(*replies: Reply) -> Iterator[str]:
    with Upstream().in_thread() as host:
        host.answer(*replies)
        yield host.url


def test_pictures_are_read_by_their_addresses_and_kept() -> None:
    by = account(fetches=True)
    with pictures(Reply(200, {"content-type": "image/png"}, [b"PNG"])) as url:
        assert asked(signed({"imageUrls": [f"{url}/1.png"], "stream": False}), by)[0] == 200
    assert by.fetched == [ccai.Fetched(f"{url}/1.png", 200, "image/png", b"PNG")]


def test_a_picture_that_cannot_be_read_is_an_illegal_value() -> None:
    by = account(fetches=True)
    with pictures(Reply(404)) as url:
        gone = asked(signed({"imageUrls": [f"{url}/1.png"], "stream": False}), by)
    nobody = asked(signed({"imageUrls": [f"{url}/2.png"], "stream": False}, x_acs_signature_nonce="2"), by)
    assert {gone[1]["Code"], nobody[1]["Code"]} == {"CCAI.ParamInvalid.IllegalParamValue"}
    assert [fetched.status for fetched in by.fetched] == [404, 0]
