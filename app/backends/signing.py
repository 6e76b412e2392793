"""The vendors' signatures: pure functions of what is sent, the credentials and the time.

Spark     «WebSocket协议通用鉴权URL生成说明», xfyun.cn/doc/spark/general_url_authentication.html
Baidu     «生成认证字符串» (`bce-auth-v1`), cloud.baidu.com/doc/Reference/s/njwvz1yfu
Alibaba   «ROA风格请求体&签名机制» (`ACS3-HMAC-SHA256`), help.aliyun.com

All read 2026-11-20; their published vectors are tests. Secrets are used as the text they are: one that looks like
base64 or hexadecimal is not decoded.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import quote, urlencode, urlsplit

_UNRESERVED = "-_.~"


def spark_url(url: str, *, api_key: str, api_secret: str, now: float, method: str = "GET") -> str:
    """The address with the query that signs it; good for 300 s.

    Args:
        url: without a query. Of a port, host and port are signed, as the service does.
        now: Unix time in seconds.
        method: `GET` for WebSocket, `POST` for the HTTP services that are signed alike.
    """
    parts = urlsplit(url)
    date = formatdate(now, usegmt=True)  # in English whatever the locale
    signed = f"host: {parts.netloc}\ndate: {date}\n{method} {parts.path} HTTP/1.1"
    signature = b64encode(_hmac(api_secret.encode(), signed)).decode()
    origin = f'api_key="{api_key}", algorithm="hmac-sha256", headers="host date request-line", signature="{signature}"'
    query = {"authorization": b64encode(origin.encode()).decode(), "date": date, "host": parts.netloc}
    return f"{url}?{urlencode(query)}"


def bce_authorization(
    *,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    access_key_id: str,
    secret_access_key: str,
    timestamp: str,
    expires_s: int = 1800,
    signed_headers: str | None = None,
) -> str:
    """Baidu's `Authorization` header; the body is not signed.

    Args:
        path: as it is on the wire before percent-encoding, a slash at its end included.
        headers: those to sign, by lower-case name; `host` must be among them.
        timestamp: UTC as `2024-05-06T04:34:56Z`; send it as `x-bce-date` too.
        signed_headers: what the third part says; the names of `headers` where `None`. Empty stands for Baidu's
            default set.
    """
    prefix = f"bce-auth-v1/{access_key_id}/{timestamp}/{expires_s}"
    signing_key = _hmac(secret_access_key.encode(), prefix).hex()
    pairs = [f"{_encoded(k)}={_encoded(v)}" for k, v in query.items() if k.lower() != "authorization"]
    lines = [f"{_encoded(name)}:{_encoded(value.strip())}" for name, value in headers.items() if value.strip()]
    canonical = "\n".join([method, quote(path, safe="/" + _UNRESERVED), "&".join(sorted(pairs)), *sorted(lines)])
    names = ";".join(sorted(headers)) if signed_headers is None else signed_headers
    return f"{prefix}/{names}/{_hmac(signing_key.encode(), canonical).hex()}"


def bce_timestamp(now: float) -> str:
    """Unix time as Baidu and Alibaba write it: `2024-05-06T04:34:56Z`."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def acs3_authorization(
    *,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    access_key_id: str,
    access_key_secret: str,
) -> str:
    """Alibaba's `Authorization` header over method, path, query, headers and body.

    Args:
        path: percent-encoded, as it is on the wire.
        headers: by lower-case name, all of them signed; must hold `host`, `x-acs-date` and `x-acs-content-sha256`.
    """
    names = sorted(headers)
    canonical = "\n".join(
        [
            method,
            path,
            "&".join(f"{_encoded(k)}={_encoded(v)}" for k, v in sorted(query.items())),
            "".join(f"{name}:{headers[name].strip()}\n" for name in names),
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    signed = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = _hmac(access_key_secret.encode(), signed).hex()
    return f"ACS3-HMAC-SHA256 Credential={access_key_id},SignedHeaders={';'.join(names)},Signature={signature}"


def path_segment(text: str) -> str:
    """An id as one segment of a path: everything but RFC 3986's unreserved characters is percent-encoded."""
    return _encoded(text)


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _hmac(key: bytes, message: str) -> bytes:
    return hmac.digest(key, message.encode(), "sha256")
