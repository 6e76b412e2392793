"""Who is calling: the key as clients send it, and the caller behind it."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.requests import Request

from app.accounts.interfaces import Caller, CallerSource
from app.core.errors import PermissionDenied

_KEY_HEADERS = (b"x-api-key", b"api-key")


def header_map(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by lower-case name; the first of a repeated name counts."""
    found: dict[bytes, bytes] = {}
    for name, value in raw:
        found.setdefault(name, value)
    return found


def presented_key(headers: dict[bytes, bytes]) -> str | None:
    """The key in the headers: `Authorization: Bearer …` with the scheme in any case, else `x-api-key`, else `api-key`.

    Never read from the address: addresses end up in logs.
    """
    scheme, _, credential = headers.get(b"authorization", b"").partition(b" ")
    keys = [credential.strip()] if scheme.lower() == b"bearer" else []
    keys += [headers.get(name, b"").strip() for name in _KEY_HEADERS]
    return next((key.decode("latin-1") for key in keys if key), None)


class CallerOf:
    """The dependency of every route that needs a key."""

    def __init__(self, authenticator: CallerSource) -> None:
        self._authenticator = authenticator

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            AuthenticationFailed: no key, or not one of ours.
        """
        return await self._authenticator.caller(presented_key(header_map(request.scope["headers"])))


class AdminOf:
    """The dependency of every route for administrators."""

    def __init__(self, caller_of: CallerOf) -> None:
        self._caller_of = caller_of

    async def __call__(self, request: Request) -> Caller:
        """The administrator.

        Raises:
            AuthenticationFailed: no key, or not one of ours.
            PermissionDenied: the key is no administrator's.
        """
        caller = await self._caller_of(request)
        if not caller.admin:
            raise PermissionDenied(
                "This key may not administer the gateway; present an admin key, as 'tuwen keys create NAME --admin' "
                "makes one.",
                chinese="此密钥没有管理权限；请使用由“tuwen keys create NAME --admin”创建的管理密钥。",
            )
        return caller
