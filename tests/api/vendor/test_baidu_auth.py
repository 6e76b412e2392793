"""Who gets in: tokens and signatures as Baidu's clients make them. Signatures are computed here anew, by the page."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from app.accounts.vendor_keys import VendorKeys
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.api.vendor.conftest import MODELS, PICTURE, PLUGIN, Vendor, key_of
from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.gateway import running_gateway
from tests.support.server import Served, serving

PATH = f"{PLUGIN}/seer/"
BODY = {"query": "q", "fileurl": PICTURE}


def _hex(key: str, message: str) -> str:
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def signed(
    vendor: Vendor,
    headers: Mapping[str, str],
    names: str,
    *,
    sk: str | None = None,
    path: str = PATH,
    query: str = "",
    at: float | None = None,
    over: Callable[[str], bool] | None = None,
) -> str:
    """An `Authorization` over headers; `names` is its list of them, as written.

    Args:
        over: which headers go into the signature, where the list does not say.
    """
    wanted = over or (lambda name: name in names.split(";"))
    lines = sorted(f"{quote(name, safe='')}:{quote(text, safe='')}" for name, text in headers.items() if wanted(name))
    prefix = f"bce-auth-v1/{vendor.ak}/{_stamp(time.time() if at is None else at)}/300"
    signing_key = _hex(vendor.sk if sk is None else sk, prefix)
    return f"{prefix}/{names}/" + _hex(signing_key, "\n".join(["POST", path, query, *lines]))


def headers_of(vendor: Vendor, at: float | None = None) -> dict[str, str]:
    date = _stamp(time.time() if at is None else at)
    return {"host": f"127.0.0.1:{vendor.served.port}", "content-type": "application/json", "x-bce-date": date}


def ask(vendor: Vendor, authorization: str, headers: Mapping[str, str], path: str = PATH) -> httpx2.Response:
    with vendor.stranger() as client:
        sent = {**headers, "authorization": authorization}
        return client.post(path, content=json.dumps(BODY).encode(), headers=sent)


def refused(response: httpx2.Response) -> tuple[int, str, str]:
    """Status, code and message of a failed signature."""
    assert response.json().items() >= {"error_code": 14, "error_msg": "IAM Certification failed"}.items()
    return response.status_code, response.headers["x-bce-error-code"], response.headers["x-bce-error-message"]


def test_token_answer_has_the_vendors_fields(vendor: Vendor) -> None:
    response = vendor.token(grant_type="client_credentials", client_id=vendor.ak, client_secret=vendor.sk)
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    names = {"refresh_token", "expires_in", "session_key", "access_token", "scope", "session_secret"}
    assert answer.keys() == names
    assert answer["expires_in"] == 2_592_000
    assert all(answer[name] and isinstance(answer[name], str) for name in names - {"expires_in"})
    found = re.fullmatch(rf"24\.[0-9a-f]{{32}}\.2592000\.(\d+)\.{vendor.ak}", answer["access_token"])
    assert found
    assert abs(int(found[1]) - time.time() - 2_592_000) < 60


def test_token_is_given_by_get_and_by_form_too(vendor: Vendor) -> None:
    fields = {"grant_type": "client_credentials", "client_id": vendor.ak, "client_secret": vendor.sk}
    with vendor.stranger() as client:
        answers = [
            client.get("/oauth/2.0/token", params=fields),
            client.post("/oauth/2.0/token", data=fields),
            client.post("/oauth/2.0/token", params=fields, content=b'""', headers={"content-type": "application/json"}),
            client.post("/oauth/2.0/token", params={"client_id": vendor.ak}, data={**fields, "client_id": "x"}),
        ]
    assert all(answer.json()["access_token"].startswith("24.") for answer in answers)


def test_wrong_credentials_are_told_in_the_vendors_words(vendor: Vendor) -> None:
    grant = {"grant_type": "client_credentials"}
    unknown = vendor.token(**grant, client_id="key_000000000000", client_secret=vendor.sk)
    wrong = vendor.token(**grant, client_id=vendor.ak, client_secret="ü")
    none = vendor.token(**grant, client_id=vendor.ak)
    assert unknown.json() == {"error": "invalid_client", "error_description": "unknown client id"}
    for answer in (wrong, none):
        assert answer.json() == {"error": "invalid_client", "error_description": "Client authentication failed"}
        assert answer.status_code == 401
    for fields in ({}, {"grant_type": "refresh_token"}):
        answer = vendor.token(**fields, client_id=vendor.ak, client_secret=vendor.sk)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def test_oversized_form_is_refused(vendor: Vendor) -> None:
    with vendor.stranger() as client:
        answer = client.post("/oauth/2.0/token", data={"client_id": "x" * 70_000})
    assert (answer.status_code, answer.json()["error"]) == (413, "invalid_request")
    assert "64 KiB" in answer.json()["error_description"]


def test_token_opens_the_door(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("yes"))
    with vendor.stranger() as client:
        response = client.post(PATH, params={"access_token": vendor.access_token()}, json=BODY)
    assert response.json()["result"] == "yes"
    assert vendor.served.booked(response).key_id == vendor.ak


@pytest.mark.parametrize("kind", ["none", "empty", "nonsense", "altered", "of a stranger", "wrong bearer"])
def test_missing_and_wrong_tokens_are_the_same(vendor: Vendor, kind: str) -> None:
    good = vendor.access_token()
    query: Mapping[str, Mapping[str, str]] = {
        "empty": {"access_token": ""},
        "nonsense": {"access_token": "24.x"},
        "altered": {"access_token": good.replace("24.", "24.0", 1)[: len(good)]},
        "of a stranger": {"access_token": good.replace(vendor.ak, "key_000000000000")},
    }
    headers = {"authorization": "Bearer sk-tw-" + "A" * 43} if kind == "wrong bearer" else {}
    with vendor.stranger() as client:
        response = client.post(PATH, params=query.get(kind, {}), json=BODY, headers=headers)
    body = response.json()
    assert response.status_code == 200
    assert (body["error_code"], body["error_msg"]) == (110, "Access token invalid or no longer valid")


def test_expired_token_has_a_code_of_its_own(vendor: Vendor) -> None:
    old = vendor.keys.token(vendor.ak, 1, now=time.time() - 2_592_001)
    with vendor.stranger() as client:
        assert client.post(PATH, params={"access_token": old}, json=BODY).json()["error_code"] == 111


@pytest.mark.parametrize(
    "names", ["content-type;host;x-bce-date", "x-bce-date;host;content-type", "host;x-bce-date", "host"]
)
def test_signature_opens_the_door_in_any_order_of_its_headers(vendor: Vendor, upstream: Upstream, names: str) -> None:
    upstream.answer(openai.answer("yes"))
    headers = headers_of(vendor)
    response = ask(vendor, signed(vendor, headers, names), headers)
    assert response.json()["result"] == "yes"
    assert vendor.served.booked(response).key_id == vendor.ak


def test_signature_without_a_list_is_over_the_default_headers(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("yes"))
    headers = {
        **headers_of(vendor),
        "content-length": str(len(json.dumps(BODY))),
        "x-bce-other": "a b/ü".encode().hex(),
    }
    authorization = signed(vendor, headers, "", over=lambda _: True)
    assert ask(vendor, authorization, {**headers, "x-unsigned": "1"}).json()["result"] == "yes"


def test_headers_of_the_vendor_may_be_signed_without_being_listed(vendor: Vendor, upstream: Upstream) -> None:
    """As the vendor's own signing library does."""
    upstream.answer(openai.answer("yes"))
    headers = headers_of(vendor)
    authorization = signed(vendor, headers, "host", over=lambda name: name in {"host", "x-bce-date"})
    assert ask(vendor, authorization, headers).json()["result"] == "yes"


def test_signature_is_over_path_and_query_as_sent(vendor: Vendor, upstream: Upstream) -> None:
    upstream.answer(openai.answer("yes"), openai.answer("yes"))
    headers = headers_of(vendor)
    names = "host;x-bce-date"
    query = "empty=&q=a%20b&%E4%B8%AD=%E6%96%87"
    canonical = "&".join(sorted(query.split("&")))
    both = signed(vendor, headers, names, query=canonical)
    assert ask(vendor, both, headers, f"{PATH}?{query}&authorization=x").json()["result"] == "yes"
    bare = PATH.rstrip("/")
    assert ask(vendor, signed(vendor, headers, names, path=bare), headers, bare).json()["result"] == "yes"
    told = refused(ask(vendor, signed(vendor, headers, names), headers, bare))
    assert told == (
        400,
        "SignatureDoesNotMatch",
        "SignatureDoesNotMatch, cause: Fail to authn user: Signature does not match",
    )
    assert refused(ask(vendor, signed(vendor, headers, names), headers, PATH + "?a=1"))[1] == "SignatureDoesNotMatch"


def test_wrong_secret_header_or_missing_host_does_not_match(vendor: Vendor) -> None:
    headers = headers_of(vendor)
    names = "host;x-bce-date"
    wrong = [
        (signed(vendor, headers, names, sk="0" * 32), headers),
        (signed(vendor, headers, names), {**headers, "x-bce-date": "2000-01-01T00:00:00Z"}),
        (signed(vendor, {**headers, "host": "aip.baidubce.com"}, names), headers),
        (signed(vendor, headers, "x-bce-date"), headers),
    ]
    for authorization, sent in wrong:
        assert refused(ask(vendor, authorization, sent))[1] == "SignatureDoesNotMatch"


def test_unknown_key_is_told_in_the_vendors_words(vendor: Vendor) -> None:
    headers = headers_of(vendor)
    authorization = signed(vendor, headers, "host").replace(vendor.ak, "ALTAKfakefakefakefake01")
    told = refused(ask(vendor, authorization, headers))
    assert told == (403, "InvalidAccessKeyId", "NotFound, cause: Could not find credential.")


@pytest.mark.parametrize("age_s", [310, -310])
def test_stale_signature_is_refused(vendor: Vendor, age_s: int) -> None:
    at = time.time() - age_s
    headers = headers_of(vendor, at)
    assert refused(ask(vendor, signed(vendor, headers, "host", at=at), headers))[:2] == (400, "RequestExpired")


@pytest.mark.parametrize(
    "authorization",
    [
        "bce-auth-v1/",
        "bce-auth-v2/a/2026-11-20T00:00:00Z/300/host/" + "0" * 64,
        "bce-auth-v1/a/2026-11-20T00:00:00Z/-1/host/" + "0" * 64,
        "bce-auth-v1/a/2026-13-20T00:00:00Z/300/host/" + "0" * 64,
    ],
)
def test_malformed_signature_is_told(vendor: Vendor, authorization: str) -> None:
    assert refused(ask(vendor, authorization, {}))[:2] == (400, "InvalidHTTPAuthHeader")


@pytest.fixture
def own(tmp_path: Path, upstream: Upstream) -> Iterator[Vendor]:
    """A gateway of which the test may spoil the keys."""
    with serving(tmp_path, MODELS.format(url=upstream.url)) as served:
        yield Vendor(served, asyncio.run(key_of(served.settings.data_dir)).id, "")


async def in_store(served: Served, change: Callable[[SqlStore], Any]) -> None:
    store = await SqlStore.open(served.settings.data_dir / "tuwen.db")
    try:
        await change(store)
    finally:
        await store.aclose()


def until(told: Callable[[], Any], *, wanted: Any) -> None:
    """Waits until a running gateway has learned of a change, which is within two seconds."""
    deadline = time.monotonic() + 4
    while told() != wanted:
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def let_in(client: httpx2.Client, token: str) -> bool:
    """Whether a token opens the door. Beyond it one is told that there is no query."""
    answer = client.post(PATH, params={"access_token": token}, json={})
    code: int = answer.json()["error_code"]
    assert code in {110, 216100}
    return code == 216100


def test_renewed_secret_makes_the_old_one_and_its_tokens_worthless(own: Vendor) -> None:
    token, headers = own.access_token(), headers_of(own)
    with own.stranger() as client:
        assert let_in(client, token)
        asyncio.run(in_store(own.served, lambda store: store.renew_vendor_secret(own.ak)))
        until(lambda: let_in(client, token), wanted=False)
        assert refused(ask(own, signed(own, headers, "host"), headers))[1] == "SignatureDoesNotMatch"
        grant = {"grant_type": "client_credentials", "client_id": own.ak}
        assert own.token(**grant, client_secret=own.sk).status_code == 401
        renewed = own.token(**grant, client_secret=own.keys.secret_key(own.ak, 2)).json()["access_token"]
        assert let_in(client, renewed)


def test_revoked_key_takes_its_vendor_credentials_along(own: Vendor) -> None:
    token, headers = own.access_token(), headers_of(own)
    with own.stranger() as client:
        assert let_in(client, token)
        asyncio.run(in_store(own.served, lambda store: store.revoke_key(own.ak, time.time())))
        until(lambda: let_in(client, token), wanted=False)
    grant = {"grant_type": "client_credentials", "client_id": own.ak}
    assert own.token(**grant, client_secret=own.sk).json()["error_description"] == "unknown client id"
    assert refused(ask(own, signed(own, headers, "host"), headers))[1] == "InvalidAccessKeyId"


def test_no_credential_of_the_address_is_in_the_log(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "data", {"TUWEN_LOG_LEVEL": "debug"}, cwd=tmp_path) as gateway:
        record = asyncio.run(key_of(gateway.data_dir))
        sk = VendorKeys(server_secret(gateway.data_dir, None)).secret_key(record.id, 1)
        query = {"grant_type": "client_credentials", "client_id": record.id, "client_secret": sk}
        with httpx2.Client(base_url=gateway.root_url, timeout=20, trust_env=False) as client:
            token = client.post("/oauth/2.0/token", params=query).json()["access_token"]
            for path, fields in ((PATH, {"access_token": token}), (f"/wrong{PATH}", {"access_token": token})):
                client.post(path, params=fields, json={**BODY, "stream": True})
            client.get("/oauth/2.0/token/", params={**query, "grant_type": "x"})
            client.put("/oauth/2.0/token", params=query)
        gateway.wait_for_line("method=PUT")
    written = "".join(gateway.output)
    assert written.count("request method=") >= 5
    for secret in (sk, token, token.split(".")[1]):
        assert secret not in written
