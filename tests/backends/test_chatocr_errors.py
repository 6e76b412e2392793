"""Baidu's errors: by code, in headers, by status."""

from __future__ import annotations

import json

import pytest

from app.backends.baidu_errors import CLOUD, OCR, SERVICES, TABLES, TOKENS
from app.backends.chatocr import ChatOcrOptions, ChatOcrTranslator
from app.core.errors import BackendBusy, BackendError, BackendMisconfigured, BackendProtocolError, BackendUnavailable
from app.core.types import Frame

KEY = "k" * 24


def translator() -> ChatOcrTranslator:
    options = ChatOcrOptions.model_validate({"endpoint": "testxxx", "api_key": KEY, "secret_key": "s" * 32})
    return ChatOcrTranslator("b", options, "uuid-chatocr")


@pytest.mark.parametrize("code", [row for table in (SERVICES, OCR) for row in table.rows])
def test_every_code_of_the_services_is_told_in_two_languages(code: str) -> None:
    row = next(table.rows[code] for table in TABLES if code in table.rows)
    with pytest.raises(row.error) as caught:
        list(translator().receive(Frame(json.dumps({"error_code": int(code), "error_msg": "said by Baidu"}).encode())))
    error = caught.value
    assert error.backend_code == code
    assert str(error) == row.english
    assert error.said_in("zh") == row.chinese
    assert "said by Baidu" in error.detail


@pytest.mark.parametrize("code", CLOUD.rows)
def test_every_code_of_the_cloud_is_read_from_body_and_headers(code: str) -> None:
    body = json.dumps({"code": code, "message": "said by Baidu", "requestId": "r"}).encode()
    for error in (
        translator().refused(400, {}, body),
        translator().refused(400, {"x-bce-error-code": code}, b""),
        translator().refused(
            400, {"x-bce-error-message": f"{code}, cause: unknown"}, body.replace(code.encode(), b"?")
        ),
    ):
        assert type(error) is CLOUD.rows[code].error
        assert error.backend_code == code


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, BackendMisconfigured),
        (404, BackendMisconfigured),
        (429, BackendBusy),
        (500, BackendUnavailable),
        (418, BackendProtocolError),
    ],
)
def test_a_status_says_what_no_code_does(status: int, error: type[BackendError]) -> None:
    for body in (b"<html>", b"", b'{"code":"BrandNew","message":"?"}', b"[]"):
        refused = translator().refused(status, {}, body)
        assert type(refused) is error
        assert refused.chinese


def test_wait_that_baidu_asks_for_is_kept() -> None:
    for body in (b"", b'{"error_code": 18, "error_msg": "qps"}'):
        assert translator().refused(429, {"retry-after": "3"}, body).retry_after_s == 3


def test_secrets_that_baidu_repeats_are_struck_out() -> None:
    refused = translator().refused(403, {}, f'{{"code":"AccessDenied","message":"of {KEY}"}}'.encode())
    assert KEY not in refused.detail


def test_no_code_stands_in_two_tables_and_zero_in_none() -> None:
    codes = [code for table in TABLES for code in table.rows]
    assert len(codes) == len(set(codes))
    assert "0" not in codes
    documented = (
        "1 2 3 4 6 13 14 15 17 18 19 100 110 111 216100 216203 216400 336000 336001 336002 336003 336004 336005"
    )
    documented += " 336100 336101 336104 336105 336501 336502 337008 216101 216102 216103 216110 216200 216201 216202"
    documented += " 216630 282000 282111 282112 282113 282114 282501"
    assert set(documented.split()) == {*SERVICES.rows, *OCR.rows}
    assert len(TOKENS.rows) == 3
