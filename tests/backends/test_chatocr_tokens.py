"""How an application of Baidu's gets its token."""

from __future__ import annotations

import pytest

from app.backends.baidu_auth import BaiduTokenFlow
from app.core.errors import BackendBusy, BackendError, BackendMisconfigured, BackendProtocolError, BackendUnavailable
from app.core.types import HttpCall

FLOW = BaiduTokenFlow("b", "https://aip.baidubce.com", "key-1", "hush/+ 1")


def test_a_token_is_asked_for_in_the_query_and_sent_in_the_query() -> None:
    ask = FLOW.ask()
    query = "grant_type=client_credentials&client_id=key-1&client_secret=hush%2F%2B+1"
    assert (ask.method, ask.url) == ("POST", f"https://aip.baidubce.com/oauth/2.0/token?{query}")
    assert ask.body == b"{}"
    call = FLOW.with_token(HttpCall("POST", "http://h.test/p/", {}, b"", token=FLOW), "24.a/b+c")
    assert call.url == "http://h.test/p/?access_token=24.a%2Fb%2Bc"
    assert call.token is None


def test_accounts_are_told_apart_without_their_secrets() -> None:
    others = [
        BaiduTokenFlow("other", "https://aip.baidubce.com", "key-1", "hush/+ 1"),
        BaiduTokenFlow("b", "https://aip.baidubce.com", "key-1", "hush 2"),
        BaiduTokenFlow("b", "https://aip.baidubce.com", "key-2", "hush/+ 1"),
        BaiduTokenFlow("b", "http://h.test", "key-1", "hush/+ 1"),
    ]
    assert [flow.account == FLOW.account for flow in others] == [True, False, False, False]
    assert "hush" not in f"{FLOW!r} {FLOW.account} {FLOW.ask()!r}"
    assert "key-1" not in f"{FLOW!r} {FLOW.account} {FLOW.ask()!r}"


@pytest.mark.parametrize(
    ("body", "lasts_s"),
    [
        (b'{"access_token":"24.x","expires_in":2592000,"scope":"public"}', 2592000),
        (b'{"access_token":"24.x"}', 3600),
        (b'{"access_token":"24.x","expires_in":-5}', 0),
    ],
)
def test_a_token_lasts_as_long_as_baidu_says(body: bytes, lasts_s: float) -> None:
    token = FLOW.read(200, body)
    assert (token.value, token.expires_in_s) == ("24.x", lasts_s)


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        (
            401,
            b'{"error":"invalid_client","error_description":"unknown client id"}',
            BackendMisconfigured,
            "unknown client id",
        ),
        (
            200,
            b'{"error":"invalid_client","error_description":"Client authentication failed"}',
            BackendMisconfigured,
            "Client authentication failed",
        ),
        (401, b'{"error":"invalid_client"}', BackendMisconfigured, "invalid_client"),
        (200, b'{"error_code":4,"error_msg":"limit of key-1"}', BackendBusy, "4"),
        (503, b"<html>", BackendUnavailable, None),
        (401, b'{"error":"brand_new"}', BackendMisconfigured, None),
        (200, b"[]", BackendProtocolError, None),
        (200, b'{"access_token":"24.secret","expires_in":"soon"}', BackendProtocolError, None),
    ],
)
def test_why_there_is_no_token_is_told(status: int, body: bytes, error: type[BackendError], code: str | None) -> None:
    with pytest.raises(error) as caught:
        FLOW.read(status, body)
    assert caught.value.backend_code == code
    assert caught.value.chinese
    assert "24.secret" not in caught.value.detail
    assert "key-1" not in caught.value.detail


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b'{"error_code":110,"error_msg":"Access token invalid or no longer valid"}', True),
        (b'{"error_code":"111"}', True),
        (b'{"error_code":100}', False),
        (b'{"result":"110"}', False),
        (b"[110]", False),
        (b"\xff", False),
        (b"[" * 100_000, False),
    ],
)
def test_only_a_token_that_is_no_longer_good_is_worth_another(body: bytes, refused: bool) -> None:
    assert FLOW.refuses(body) is refused
