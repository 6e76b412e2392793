"""Routes with small JSON bodies, read within a bound and as strictly as chat requests: the framework reads all that
comes, before it looks at the key, in any encoding, and of a field that is written twice it takes the last."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from typing_extensions import override

from app.api.body import check_headers, check_object, too_large
from app.api.deps import header_map

MAX_BYTES = 64 * 1024
_CONTENT_TYPE = b"content-type"
_JSON = (_CONTENT_TYPE, b"application/json")


class BoundedRoute(APIRoute):
    """A route whose body is a JSON object of `MAX_BYTES` at most, read once its dependencies have let the caller in."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            for door in self.dependencies:
                if door.dependency is not None:
                    await door.dependency(request)
            return await handler(await _checked(request))

        return bounded


async def _checked(request: Request) -> Request:
    """The request with its body, labelled as JSON: `curl -d` labels it as a form.

    Raises:
        UnsupportedMediaType: it is packed, or a form with parts.
        InvalidRequest: it is no JSON object.
        PayloadTooLarge: it is over the bound.
    """
    headers = request.scope["headers"]
    check_headers(header_map(headers))
    labelled = [*((name, value) for name, value in headers if name != _CONTENT_TYPE), _JSON]
    bounded = _BoundedRequest({**request.scope, "headers": labelled}, request.receive)
    check_object(await bounded.body())
    return bounded


class _BoundedRequest(Request):
    @override
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            data = bytearray()
            try:
                async for piece in self.stream():
                    data += piece
                    if len(data) > MAX_BYTES:
                        raise too_large(MAX_BYTES)
            except ClientDisconnect as error:  # there is nobody left to tell
                raise HTTPException(400) from error
            self._body = bytes(data)
        return self._body
