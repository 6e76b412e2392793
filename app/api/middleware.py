"""The edge: what every answer has, whatever became of the request. Plain ASGI, outside all else.

* `x-request-id`, and one log line.
* `Connection: close` once the process was told to end; and 503 instead of nothing for a request whose answer has not
  begun when time is up.
* CORS, on errors, 401 and streams too. Answers are the same for every origin and keys travel in headers, never in
  cookies; so any header a preflight asks for is allowed by echo.
* Paths as clients mistype them (`/chat/completions`, `/v1/v1/…`, `//`, a trailing slash), served without a redirect: a
  redirected POST loses its body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.deps import header_map
from app.api.errors import error_response
from app.api.language import language_of
from app.core.clock import Clock
from app.core.errors import GatewayStopping
from app.gateway.draining import Draining

_log = structlog.get_logger("tuwen.request")

_API_ROOTS = frozenset({"chat", "models", "completions", "embeddings", "responses", "messages", "usage", "files"})
_SLASHES = re.compile("/{2,}")
_EXPOSED = (
    b"x-request-id, retry-after, retry-after-ms, x-should-retry, x-tuwen-notice, x-tuwen-cost, x-tuwen-queued-ms, "
    b"x-tuwen-idempotent-replay, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)


def canonical_path(path: str) -> str:
    """The path the router knows: `/v1/…` for whatever means it, all else without doubled and trailing slashes."""
    segments = [segment for segment in _SLASHES.sub("/", path).strip("/").split("/") if segment]
    rest = segments
    while rest and rest[0] == "v1":
        rest = rest[1:]
    if rest and rest[0] in _API_ROOTS:
        return "/v1/" + "/".join(rest)
    return "/" + "/".join(segments)


class Edge:
    """Wraps the whole app.

    Args:
        origins: from which browsers may call; `*` for all.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock, draining: Draining, origins: Collection[str] = ("*",)) -> None:
        self._app = app
        self._clock = clock
        self._draining = draining
        self._origins = {origin.encode("latin-1") for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._request_id()
        scope["tuwen.request_id"] = request_id
        ours = [*self._cors_for(scope), (b"x-request-id", request_id.encode())]
        if scope["method"] == "OPTIONS":
            await _answer_preflight(scope, send, [*ours, *self._closing()])
            return
        path = scope["path"]
        scope["path"] = canonical_path(path)
        status = 0
        start_s = self._clock.monotonic()

        request = self._draining.arrived()

        async def send_ours(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *ours, *self._closing()]
                self._draining.answering(request)
            await send(message)

        try:
            if self._draining.stopped:
                await _stopping(scope)(scope, receive, send_ours)
            else:
                await self._app(scope, receive, send_ours)
        except asyncio.CancelledError:
            if status or not self._draining.stopped or request.uncancel() > 0:
                raise
            await _stopping(scope)(scope, receive, send_ours)
        finally:
            self._draining.answering(request)
            total_ms = round((self._clock.monotonic() - start_s) * 1000)
            _log.info(
                "request", method=scope["method"], path=path[:200], status=status, ms=total_ms, request_id=request_id
            )

    def _cors_for(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        exposed = (b"access-control-expose-headers", _EXPOSED)
        if b"*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), exposed]
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        vary = (b"vary", b"Origin")
        return [(b"access-control-allow-origin", origin), exposed, vary] if origin in self._origins else [vary]

    def _closing(self) -> list[tuple[bytes, bytes]]:
        """What tells the caller not to ask again on this connection, once it is going to be closed."""
        return [(b"connection", b"close")] if self._draining.begun else []

    def _request_id(self) -> str:
        """24 hexadecimal digits that sort by time: the ledger's index stays compact, which halves the cost of a row."""
        return f"{int(self._clock.now() * 1000):012x}{self._clock.nonce()[:12]}"


def _stopping(scope: Scope) -> Response:
    asked = header_map(scope["headers"]).get(b"accept-language", b"")
    return error_response(GatewayStopping(), language_of(asked.decode("latin-1")))


async def _answer_preflight(scope: Scope, send: Send, ours: list[tuple[bytes, bytes]]) -> None:
    asked = next((value for name, value in scope["headers"] if name == b"access-control-request-headers"), b"")
    headers = [
        *ours,
        (b"access-control-allow-methods", b"GET, HEAD, POST, OPTIONS"),
        (b"access-control-allow-headers", asked or b"authorization, content-type, x-api-key"),
        (b"access-control-allow-private-network", b"true"),
        (b"access-control-max-age", b"86400"),
        (b"vary", b"Access-Control-Request-Headers"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
