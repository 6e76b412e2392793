"""Our signatures beside those that the vendors' own code computes, for many cases."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from app.backends.signing import acs3_authorization, bce_authorization, bce_timestamp, spark_url
from tests.vendors.conftest import Shown, run_sdk

_CASES = 60
_CHARS = "abcXYZ019-_.~ /+*%中文=&"


def words(chance: random.Random, chars: str = _CHARS) -> str:
    return "".join(chance.choices(chars, k=chance.randint(1, 24)))


def test_spark_addresses_are_signed_as_the_vendors_sdk_signs_them(shown: Shown) -> None:
    chance = random.Random(1)
    cases = [
        {
            "url": f"wss://{chance.choice(('spark-api.xf-yun.com', '127.0.0.1:8765'))}/{words(chance, 'abc/v.21')}",
            "api_key": words(chance, "0123456789abcdef"),
            "api_secret": words(chance),
            "now": chance.randint(1_000_000_000, 2_000_000_000),
        }
        for _ in range(_CASES)
    ]

    def ours(case: dict[str, Any]) -> dict[str, str]:
        query = parse_qs(urlsplit(spark_url(**case)).query)
        return {name: values[0] for name, values in query.items()}

    def without_its_indentation(found: dict[str, Any]) -> dict[str, Any]:
        return {**found, "authorization": fields_of(found["authorization"])}

    theirs = run_sdk("sdk_signatures.py", stdin="\n".join(json.dumps({**case, "kind": "spark"}) for case in cases))
    assert [without_its_indentation(ours(case)) for case in cases] == list(map(without_its_indentation, theirs))
    shown("our signatures equal those of the vendors' own code", spark=len(cases))


def fields_of(authorization: str) -> list[str]:
    """The fields of an authorization: the SDK's source indents them."""
    return [field.strip() for field in base64.b64decode(authorization).decode().split(",")]


def test_baidu_requests_are_signed_as_the_vendors_sdk_signs_them(shown: Shown) -> None:
    chance = random.Random(2)
    cases = []
    for _ in range(_CASES):
        now = chance.randint(1_000_000_000, 2_000_000_000)
        headers = {"host": "aip.baidubce.com", "x-bce-date": bce_timestamp(now), "content-type": "application/json"}
        if chance.random() < 0.3:
            headers["x-bce-extra"] = words(chance).strip() or "x"
        cases.append(
            {
                "method": chance.choice(("GET", "POST", "PUT")),
                "path": "/" + words(chance, "abc/-_.~ 中"),
                "query": {words(chance, "abcdef"): words(chance) for _ in range(chance.randint(0, 4))},
                "headers": headers,
                "access_key_id": words(chance, "ALTAK0123"),
                "secret_access_key": words(chance, "0123456789abcdef"),
                "now": now,
                "expires_s": chance.choice((300, 1800)),
            }
        )
    theirs = run_sdk(
        "sdk_signatures.py",
        stdin="\n".join(
            json.dumps({**case, "kind": "bce", "path": quote(str(case["path"]), safe="/-_.~")}) for case in cases
        ),
    )
    for case, found in zip(cases, theirs, strict=True):
        now = case.pop("now")
        ours = bce_authorization(**case, timestamp=bce_timestamp(now))  # type: ignore[arg-type]  # built above
        assert in_order(ours) == in_order(found["authorization"])
    shown("our signatures equal those of the vendors' own code", baidu=len(cases))


def in_order(authorization: str) -> list[str]:
    """The parts, the names of the signed headers in one order: the SDK takes them from a set."""
    *head, names, signature = authorization.split("/")
    return [*head, ";".join(sorted(names.split(";"))), signature]


def test_alibaba_requests_are_signed_as_the_vendors_sdk_signs_them(shown: Shown) -> None:
    chance = random.Random(3)
    cases = []
    bodies = []
    for _ in range(_CASES):
        body = words(chance).encode()
        bodies.append(body)
        headers = {
            "host": "contactcenterai.cn-shanghai.aliyuncs.com",
            "content-type": "application/json; charset=utf-8",
            "x-acs-action": "GeneralAnalyzeImage",
            "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-acs-date": bce_timestamp(chance.randint(1_000_000_000, 2_000_000_000)),
            "x-acs-signature-nonce": words(chance, "0123456789abcdef"),
            "x-acs-version": "2024-06-03",
        }
        if chance.random() < 0.3:
            headers |= {"x-acs-security-token": words(chance, "abc/+="), "x-acs-accesskey-id": "STS.abc"}
        cases.append(
            {
                "method": "POST",
                "path": "/" + quote(words(chance), safe="/-_.~"),
                "query": {words(chance, "abcdef"): words(chance) for _ in range(chance.randint(0, 4))},
                "headers": headers,
                "access_key_id": words(chance, "LTAI5t0123"),
                "access_key_secret": words(chance),
            }
        )
    theirs = run_sdk("sdk_signatures.py", stdin="\n".join(json.dumps({**case, "kind": "acs3"}) for case in cases))
    ours = [acs3_authorization(**case, body=body) for case, body in zip(cases, bodies, strict=True)]  # type: ignore[arg-type]  # built above
    assert ours == [found["authorization"] for found in theirs]
    shown("our signatures equal those of the vendors' own code", alibaba=len(cases))
