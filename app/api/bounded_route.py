"""Routes with small bodies, read within a bound: the framework reads all that comes, before it looks at the key."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from typing_extensions import override

MAX_BYTES = 64 * 1024


class BoundedRoute(APIRoute):
    """A route whose body takes `MAX_BYTES` at most."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            return await handler(_BoundedRequest(request.scope, request.receive))

        return bounded


class _BoundedRequest(Request):
    @override
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            data = bytearray()
            async for piece in self.stream():
                data += piece
                if len(data) > MAX_BYTES:
                    raise HTTPException(413)
            self._body = bytes(data)
        return self._body
