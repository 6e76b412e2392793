"""Signatures as the vendors' own code computes them, for cases read from stdin: one JSON object a line, in and out."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit


def spark(case: dict[str, Any]) -> dict[str, Any]:
    from sparkai.llm import llm

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(case["now"])

    llm.datetime = Frozen
    client = llm._SparkLLMClient.__new__(llm._SparkLLMClient)
    url = client._create_url(case["url"], case["api_key"], case["api_secret"])
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def bce(case: dict[str, Any]) -> dict[str, Any]:
    from baidubce.auth.bce_credentials import BceCredentials
    from baidubce.auth.bce_v1_signer import sign

    credentials = BceCredentials(case["access_key_id"].encode(), case["secret_access_key"].encode())
    headers = {name.encode(): value.encode() for name, value in case["headers"].items()}
    signed = sign(
        credentials,
        case["method"].encode(),
        case["path"].encode(),
        headers,
        {name.encode(): value.encode() for name, value in case["query"].items()},
        timestamp=case["now"],
        expiration_in_seconds=case["expires_s"],
        headers_to_sign={name.encode() for name in case["headers"]},
    )
    return {"authorization": signed.decode() if isinstance(signed, bytes) else signed}


def acs3(case: dict[str, Any]) -> dict[str, Any]:
    from alibabacloud_tea_openapi.utils import Utils
    from darabonba.request import DaraRequest

    request = DaraRequest()
    request.method, request.pathname = case["method"], case["path"]
    request.query, request.headers = dict(case["query"]), dict(case["headers"])
    payload = case["headers"]["x-acs-content-sha256"]
    authorization = Utils.get_authorization(
        request, "ACS3-HMAC-SHA256", payload, case["access_key_id"], case["access_key_secret"]
    )
    return {"authorization": authorization}


def main() -> None:
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(globals()[case.pop("kind")](case)))


main()
