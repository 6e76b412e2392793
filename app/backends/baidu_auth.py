"""How calls to Baidu's AI services prove who asks; shared by `chatocr` and `baidu_ocr`.

Two ways, one per section: the API Key and Secret Key of an application, for which Baidu gives out an access token of
30 days («鉴权认证机制», ai.baidu.com); or the Access Key of a cloud account, which signs each call (`bce-auth-v1`,
«生成认证字符串», cloud.baidu.com). Read 2026-11-20.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec
from pydantic import SecretStr, field_validator, model_validator
from typing_extensions import override

from app.backends.baidu_errors import JSON_FAULTS, BaiduErrors
from app.backends.base import BackendOptions, Finding
from app.backends.base_url import checked_base_url
from app.backends.signing import bce_authorization, bce_timestamp
from app.core.secret import Guarded
from app.core.types import AccessToken, Context, HttpCall, TokenFlow

BASE_URL = "https://aip.baidubce.com"

_TOKEN_PATH = "/oauth/2.0/token"  # noqa: S105 - a path
_BAD_TOKEN_CODES = frozenset({"110", "111"})
_TOKEN_LASTS_S = 3600.0  # where Baidu does not say


class BaiduOptions(BackendOptions):
    """What every section of a Baidu AI service says.

    Args:
        base_url: scheme and host.
        api_key, secret_key: of an application; its calls carry an access token.
        access_key_id, secret_access_key: of a cloud account; its calls are signed.
    """

    base_url: str = BASE_URL
    api_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None

    @field_validator("base_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        return checked_base_url(url)

    @model_validator(mode="after")
    def _one_pair(self) -> Self:
        application = [bool(_text(self.api_key)), bool(_text(self.secret_key))]
        account = [bool(_text(self.access_key_id)), bool(_text(self.secret_access_key))]
        if sorted([application, account]) != [[False, False], [True, True]]:
            raise ValueError(
                "wants one pair of credentials: api_key and secret_key (an application's), or access_key_id and "
                "secret_access_key (an account's), not both"
            )
        return self

    @property
    def signs(self) -> bool:
        """Whether calls are signed; else they carry a token."""
        return bool(_text(self.access_key_id))

    def address(self, path: str) -> str:
        """The URL of a path, which is percent-encoded already."""
        return self.base_url.rstrip("/") + path


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float = _TOKEN_LASTS_S


class _Refusal(msgspec.Struct):
    error_code: int | str | None = None


_token_answers = msgspec.json.Decoder(_TokenAnswer)
_refusals = msgspec.json.Decoder(_Refusal)


@dataclass(frozen=True, slots=True)
class BaiduTokenFlow(TokenFlow, Guarded):
    """An application's access token."""

    backend: str
    base_url: str
    api_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @property
    @override
    def account(self) -> str:
        whole = "\n".join((self.base_url, self.api_key, self.secret_key))
        return f"baidu {hashlib.sha256(whole.encode()).hexdigest()}"

    @override
    def ask(self) -> HttpCall:
        query = {"grant_type": "client_credentials", "client_id": self.api_key, "client_secret": self.secret_key}
        return HttpCall(
            method="POST",
            url=f"{self.base_url.rstrip('/')}{_TOKEN_PATH}?{urlencode(query)}",
            headers={"content-type": "application/json"},
            body=b"{}",
            framing="json",
        )

    @override
    def read(self, status: int, body: bytes) -> AccessToken:
        try:
            answer = _token_answers.decode(body)
        except JSON_FAULTS:
            errors = BaiduErrors(self.backend, (self.api_key, self.secret_key))
            if b"access_token" in body:
                raise errors.no_answer("a token, but no sense in what stands beside it") from None
            raise errors.of_response(status, {}, body) from None
        return AccessToken(answer.access_token, max(answer.expires_in, 0.0))

    @override
    def with_token(self, call: HttpCall, token: str) -> HttpCall:
        return replace(call, url=f"{call.url}?access_token={quote(token, safe='')}", token=None)

    @override
    def refuses(self, body: bytes) -> bool:
        try:
            return str(_refusals.decode(body).error_code) in _BAD_TOKEN_CODES
        except JSON_FAULTS:
            return False


def authorised(call: HttpCall, options: BaiduOptions, backend: str, context: Context) -> HttpCall:
    """The call with its signature, or with the flow that brings its token."""
    if options.signs:
        return _signed(call, options, context)
    flow = BaiduTokenFlow(backend, options.base_url, _text(options.api_key), _text(options.secret_key))
    return replace(call, token=flow)


def _signed(call: HttpCall, options: BaiduOptions, context: Context) -> HttpCall:
    timestamp = bce_timestamp(context.now)
    signed = {
        "content-type": call.headers["content-type"],
        "host": _host(call.url),
        "x-bce-date": timestamp,
    }
    authorization = bce_authorization(
        method=call.method,
        path=unquote(urlsplit(call.url).path),
        query={},
        headers=signed,
        access_key_id=_text(options.access_key_id),
        secret_access_key=_text(options.secret_access_key),
        timestamp=timestamp,
    )
    # `host` goes out as it was signed: with a port only where the address names one other than the scheme's own
    return replace(call, headers={**call.headers, **signed, "authorization": authorization})


def _host(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return host.removesuffix({"http": ":80", "https": ":443"}.get(parts.scheme, ""))


_SHAPES: tuple[tuple[str, str, re.Pattern[str], str, str], ...] = (
    # option, Baidu's name, shape, and the shape in words
    ("api_key", "API Key", re.compile(r"[A-Za-z0-9]{24}"), "24 letters and digits", "应为 24 位字母和数字"),
    ("secret_key", "Secret Key", re.compile(r"[A-Za-z0-9]{32}"), "32 letters and digits", "应为 32 位字母和数字"),
    (
        "access_key_id",
        "Access Key",
        re.compile(r"ALTAK[A-Za-z0-9-]+"),
        "a word that begins with ALTAK",
        "应以 ALTAK 开头",
    ),
    (
        "secret_access_key",
        "Secret Access Key",
        re.compile(r"[0-9a-f]{32}"),
        "32 hexadecimal digits",
        "应为 32 位十六进制数",
    ),
)


def inspected_credentials(options: BaiduOptions) -> Iterator[Finding]:
    """Whether the credentials look like Baidu's."""
    for option, name, shape, english, chinese in _SHAPES:
        value = _text(getattr(options, option))
        if value and not shape.fullmatch(value):
            yield Finding(
                "credentials",
                False,
                f"{option} does not look like Baidu's {name}: that is {english}; copy it again from the console",
                f"{option} 不像百度的 {name}（{chinese}）；请从控制台重新复制",
            )
            return
    kind = (
        ("an account's Access Key", "账号的 Access Key") if options.signs else ("an application's keys", "应用的密钥")
    )
    yield Finding("credentials", True, f"{kind[0]}, of the right shape", f"{kind[1]}，格式正确")


def addresses_of(options: BaiduOptions, call_path: str) -> tuple[str, ...]:
    """The URLs that calls go to, the one for tokens included."""
    call = options.address(call_path)
    return (call,) if options.signs else (options.address(_TOKEN_PATH), call)
