"""Who calls a Baidu API: by `access_token` in the query, by a `bce-auth-v1` signature, or by a plain gateway key.

«鉴权认证机制» ai.baidu.com/ai-doc/NLP/Tk6z52d7c and «生成认证字符串» cloud.baidu.com/doc/Reference/s/njwvz1yfu, read
2026-11-20. AK and SK are those `tuwen keys vendor` shows. These are the only APIs here that take a credential in the
address: their clients know no other way, and `observe/logs.py` keeps it out of the log.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from starlette.types import Scope

from app.accounts.interfaces import Caller
from app.accounts.keys import Authenticator
from app.accounts.vendor_keys import TOKEN_LIFE_S, PresentedToken
from app.api.deps import header_map, presented_key
from app.backends.signing import bce_authorization
from app.core.errors import AuthenticationFailed

_SCOPE = "public brain_all_scope ai_custom_yiyan_com ai_custom_yiyan_com_eb_instant"
_SKEW_S = 300
_BCE = re.compile(
    r"bce-auth-v1/([^/]{1,64})/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)/(\d{1,9})/([^/]{0,4096})/([0-9a-f]{64})", re.ASCII
)
_SIGNED_UNLESS_SAID = frozenset({"host", "content-length", "content-type", "content-md5"})
_BCE_PREFIX = "x-bce-"


class BaiduRefusal(Exception):
    """A call that is not let in, in the vendor's words.

    Args:
        reason: the vendor's code and message of a failed signature, for headers; `None`: the token was at fault.
    """

    def __init__(self, code: int, message: str, *, status: int = 200, reason: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = dict(zip(("x-bce-error-code", "x-bce-error-message"), reason or (), strict=False))


class OAuthRefusal(Exception):
    """A token that is not given out: OAuth's `error` and `error_description`."""

    def __init__(self, error: str, description: str, *, status: int) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


def _unsigned(status: int, code: str, message: str) -> BaiduRefusal:
    return BaiduRefusal(14, "IAM Certification failed", status=status, reason=(code, message))


@dataclass(frozen=True, slots=True)
class _Signature:
    """An `Authorization: bce-auth-v1/…`.

    Args:
        signed_headers: as it says; empty stands for the default set.
    """

    text: str
    access_key_id: str
    timestamp: str
    expires_s: int
    signed_headers: str

    @classmethod
    def read(cls, text: str) -> _Signature:
        match = _BCE.fullmatch(text)
        if match is None:
            raise _unsigned(400, "InvalidHTTPAuthHeader", "The HTTP authorization header is invalid.")
        return cls(text, match[1], match[2], int(match[3]), match[4])

    def made_at(self) -> float:
        """Unix time in seconds."""
        try:
            return datetime.fromisoformat(self.timestamp).timestamp()
        except ValueError as error:
            raise _unsigned(400, "InvalidHTTPAuthHeader", "The HTTP authorization header is invalid.") from error

    def header_sets(self, headers: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """The headers it may be over: those it lists; or these and all `x-bce-*`, as Baidu's own library signs."""
        listed = {name.strip().lower() for name in self.signed_headers.split(";")} - {""} or _SIGNED_UNLESS_SAID
        wide = listed | {name for name in headers if name.startswith(_BCE_PREFIX)}
        for names in [listed, wide] if self.signed_headers and wide != listed else [wide]:
            yield {name: value for name, value in headers.items() if name in names}


class BaiduAuth:
    """Checks callers, and gives out access tokens.

    Args:
        now: Unix time in seconds.
    """

    def __init__(self, authenticator: Authenticator, now: Callable[[], float]) -> None:
        self._authenticator = authenticator
        self._keys = authenticator.vendor_keys
        self._now = now

    async def caller(self, scope: Scope) -> Caller:
        """Who makes an API call.

        Raises:
            BaiduRefusal: no credential, or none of ours.
            RecordsUnavailable: the store cannot be read.
        """
        headers = header_map(scope["headers"])
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        token = query.get("access_token")
        if token is not None:
            return await self._by_token(token)
        authorization = headers.get(b"authorization", b"").decode("latin-1").strip()
        if authorization.startswith("bce-auth-"):
            return await self._by_signature(_Signature.read(authorization), scope, query)
        try:
            return await self._authenticator.caller(presented_key(headers))
        except AuthenticationFailed as error:
            raise _bad_token() from error

    async def _by_token(self, text: str) -> Caller:
        token = PresentedToken.read(text)
        holder = None if token is None else await self._authenticator.vendor_holder(token.key_id)
        if token is None or holder is None or not self._keys.genuine(token, holder.version):
            raise _bad_token()
        if token.expires_at <= self._now():
            raise BaiduRefusal(111, "Access token expired")
        return holder.caller

    async def _by_signature(self, signature: _Signature, scope: Scope, query: Mapping[str, str]) -> Caller:
        made_at = signature.made_at()
        holder = await self._authenticator.vendor_holder(signature.access_key_id)
        if holder is None:
            raise _unsigned(403, "InvalidAccessKeyId", "NotFound, cause: Could not find credential.")
        secret_key = self._keys.secret_key(holder.caller.key_id, holder.version)
        if not _is_signed(signature, scope, query, secret_key):
            words = "SignatureDoesNotMatch, cause: Fail to authn user: Signature does not match"
            raise _unsigned(400, "SignatureDoesNotMatch", words)
        if not made_at - _SKEW_S <= self._now() <= made_at + signature.expires_s:
            raise _unsigned(400, "RequestExpired", "Request has expired.")
        return holder.caller

    async def grant(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """The answer to a request for an access token.

        Raises:
            OAuthRefusal: AK or SK are wrong, or it is another grant.
            RecordsUnavailable: the store cannot be read.
        """
        if asked.get("grant_type") != "client_credentials":
            raise OAuthRefusal("unsupported_grant_type", "The authorization grant type is not supported", status=400)
        holder = await self._authenticator.vendor_holder(asked.get("client_id", ""))
        if holder is None:
            raise OAuthRefusal("invalid_client", "unknown client id", status=401)
        key_id, version = holder.caller.key_id, holder.version
        presented = asked.get("client_secret", "").encode()
        if not hmac.compare_digest(presented, self._keys.secret_key(key_id, version).encode()):
            raise OAuthRefusal("invalid_client", "Client authentication failed", status=401)
        return {
            "refresh_token": f"25.{self._keys.filler('refresh_token', key_id, version)}",
            "expires_in": TOKEN_LIFE_S,
            "session_key": self._keys.filler("session_key", key_id, version),
            "access_token": self._keys.token(key_id, version, now=self._now()),
            "scope": _SCOPE,
            "session_secret": self._keys.filler("session_secret", key_id, version),
        }


def _bad_token() -> BaiduRefusal:
    return BaiduRefusal(110, "Access token invalid or no longer valid")


def _is_signed(signature: _Signature, scope: Scope, query: Mapping[str, str], secret_key: str) -> bool:
    """Whether the request carries the signature that its key makes over it. The host is as the client wrote it, and the
    path as it stood on the wire, a slash at its end included."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in header_map(scope["headers"]).items()}
    signed = [
        bce_authorization(
            method=scope["method"],
            path=unquote_to_bytes(scope["raw_path"]).decode("utf-8", "replace"),
            query=query,
            headers=chosen,
            access_key_id=signature.access_key_id,
            secret_access_key=secret_key,
            timestamp=signature.timestamp,
            expires_s=signature.expires_s,
            signed_headers=signature.signed_headers,
        )
        for chosen in signature.header_sets(headers)
        if "host" in chosen
    ]
    matches = [hmac.compare_digest(each.encode(), signature.text.encode()) for each in signed]
    return any(matches)
