"""Alibaba's own client and our gateway ask the same server, and make the same of its answers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ccai
from tests.fakes.ccai import Answer, CcaiAccount
from tests.fakes.upstream import Upstream
from tests.support.server import serving
from tests.vendors.conftest import Shown, run_sdk

CLAIM = "the vendors' own code and our translators read the same exchanges"
REFUSED = "servers refuse wrong secrets, stale dates and used nonces, as documented"
ACCOUNT = {
    "access_key_id": "LTAI5tFakeAccessKeyId0000",
    "access_key_secret": "FakeAccessKeySecret0000000000",
    "workspace_id": "llm-ik1234567890RVYCKzt",
    "app_id": "a070a49c681f4a95a0f0123456789c35",
}
MODELS = """
[backends.ccai]
kind = "ccai"
base_url = "{url}"
access_key_id = "LTAI5tFakeAccessKeyId0000"
access_key_secret = "FakeAccessKeySecret0000000000"
workspace_id = "llm-ik1234567890RVYCKzt"
app_id = "a070a49c681f4a95a0f0123456789c35"

[models.m]
routes = [{{ backend = "ccai", model = "general" }}]
"""
LONG = ["这是一段很长的回答。" * 20 for _ in range(100)]

ANSWERS: dict[str, Answer] = {
    "some words": ccai.says("图里", "有一只", "猫。"),
    "one event": ccai.says("一只猫"),
    "emoji": ccai.says("👩", "‍👩‍👧", "家"),
    "20 000 characters": ccai.says(*LONG),
    "null as a word": ccai.says("图里", "有猫", unfinished="word"),
    "finish reason absent": ccai.says("图里", "有猫", unfinished="absent"),
    "blank after data": ccai.says("图里", "有猫", space=True),
}
FAULTS = ("CCAI.Throttling.Qpm", "CCAI.ParamNotfound.MissParam", "CCAI.TenantPermission.NoAuth", "CCAI.InternalError")


def case(url: str, *, stream: bool, **changes: Any) -> str:
    request = {"custom_prompt": "图里有什么?", "image_urls": ["https://img.example.com/1.jpg"], "stream": stream}
    asked = {**ACCOUNT, "endpoint": url.removeprefix("http://"), "request": request, **changes}
    return json.dumps(asked)


def answered_by(answers: Sequence[Answer]) -> tuple[Upstream, Any]:
    account = CcaiAccount(**ACCOUNT)
    return Upstream(), account.serving(*answers)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_answers_read_alike(tmp_path: Path, shown: Shown, stream: bool) -> None:
    up, serve = answered_by([*ANSWERS.values(), *ANSWERS.values()])  # to the SDK first, then to us
    with up.in_thread():
        up.otherwise(serve)
        theirs = run_sdk("sdk_ccai.py", stdin="\n".join([case(up.url, stream=stream)] * len(ANSWERS)))
        with serving(tmp_path, MODELS.format(url=up.url), public_url="https://pictures.example") as gateway:
            for name, made in zip(ANSWERS, theirs, strict=True):
                answer = gateway.chat(stream=stream, stream_options={"include_usage": True} if stream else None)
                expected = (made["text"], made["finish_reason"], made["input_tokens"], made["output_tokens"])
                assert read(answer.text, stream=stream) == expected, name
                assert gateway.booked(answer).backend_request_id == made["request_id"]
    shown(CLAIM, ccai=len(ANSWERS))


def read(body: str, *, stream: bool) -> tuple[str, str, int, int]:
    """Text, finish reason and tokens of one of our answers."""
    if not stream:
        value = json.loads(body)
        (choice,), usage = value["choices"], value["usage"]
        return choice["message"]["content"], choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]
    *chunks, done = [block.removeprefix("data: ") for block in body.split("\n\n") if block.startswith("data: ")]
    assert done == "[DONE]"
    values = [json.loads(chunk) for chunk in chunks]
    usage = values.pop()["usage"]
    text = "".join(value["choices"][0]["delta"].get("content", "") for value in values)
    return text, values[-1]["choices"][0]["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_faults_are_faults_to_both(tmp_path: Path, shown: Shown, stream: bool) -> None:
    faults = [ccai.error(code) for code in FAULTS]
    up, serve = answered_by([*faults, *faults])
    with up.in_thread():
        up.otherwise(serve)
        theirs = run_sdk("sdk_ccai.py", stdin="\n".join([case(up.url, stream=stream)] * len(FAULTS)))
        assert [made["code"] for made in theirs] == list(FAULTS)
        models = MODELS.format(url=up.url)
        with serving(tmp_path, models, attempts=1, public_url="https://pictures.example") as gateway:
            assert [gateway.chat(stream=stream).status_code for _ in FAULTS] == [429, 400, 502, 503]
    shown(CLAIM, ccai_faults=len(FAULTS))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_server_refuses_what_is_not_signed_right(shown: Shown, stream: bool) -> None:
    stale = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 16 * 60))
    wrong = {
        "SignatureDoesNotMatch": {"access_key_secret": "WrongSecret000000000000000000"},
        "InvalidTimeStamp.Expired": {"headers": {"x-acs-date": stale}},
        "InvalidAccessKeyId.NotFound": {"access_key_id": "LTAI5tNobody000000000000"},
        "InvalidSecurityToken.MismatchWithAccessKey": {"security_token": "a-token-that-nobody-gave-out"},
    }
    nonce = {"headers": {"x-acs-signature-nonce": "0123456789abcdef0123456789abcdef"}}
    up, serve = answered_by([ccai.says("猫")])
    with up.in_thread():
        up.otherwise(serve)
        lines = [case(up.url, stream=stream, **changes) for changes in (*wrong.values(), nonce, nonce)]
        *refused, first, again = run_sdk("sdk_ccai.py", stdin="\n".join(lines))
    assert [made["code"] for made in refused] == list(wrong)
    assert (first["text"], again["code"]) == ("猫", "SignatureNonceUsed")
    shown(REFUSED, ccai=len(wrong) + 1)
