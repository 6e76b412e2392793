"""The edge: what every answer has, whatever became of the request. Plain ASGI, outside all else.

* `x-request-id`, and one log line.
* `Connection: close` once the process was told to end; and 503 instead of nothing for a request whose answer has not
  begun when time is up.
* CORS, on errors, 401 and streams too. Answers are the same for every origin and keys travel in headers, never in
  cookies; so any header a preflight asks for is allowed by echo.
* An answer to a body that was not read is given at once; where the connection ends with it, what the caller still sends
  is taken for a moment first, for a connection closed in its face would cost it the answer.
* The hot path is served right here: below, the web framework would wrap each request in eight layers, which take 5 KiB
  for as long as it lasts. An error that comes out of it is answered here as there.
* Paths as clients mistype them (`/chat/completions`, `/v1/v1/…`, `//`, a trailing slash), served without a redirect: a
  redirected POST loses its body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.deps import header_map
from app.api.errors import crash_response, error_response
from app.api.language import language_for
from app.core.clock import Clock
from app.core.errors import GatewayError, GatewayStopping
from app.gateway.draining import Draining

_log = structlog.get_logger("tuwen.request")

_API_ROOTS = frozenset({"chat", "models", "completions", "embeddings", "responses", "messages", "usage", "files"})
_DRAIN_S = 3.0
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
        hot: what is served for POST at these paths instead.
        origins: from which browsers may call; `*` for all.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hot: Mapping[str, ASGIApp],
        clock: Clock,
        draining: Draining,
        origins: Collection[str] = ("*",),
    ) -> None:
        self._app = app
        self._hot = hot
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
            await _answer_preflight(scope, send, [*ours, *_closing(self._draining)])
            return
        path = scope["path"]
        known = scope["path"] = canonical_path(path)
        app = self._hot.get(known, self._app) if scope["method"] == "POST" else self._app
        start_s = self._clock.monotonic()
        passing = _Passing(scope, receive, send, ours, self._draining)
        try:
            await passing.through(app)
        finally:
            total_ms = round((self._clock.monotonic() - start_s) * 1000)
            what = {"method": scope["method"], "path": path[:200], "status": passing.status}
            _log.info("request", **what, ms=total_ms, request_id=request_id)

    def _cors_for(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        exposed = (b"access-control-expose-headers", _EXPOSED)
        if b"*" in self._origins:
            return [(b"access-control-allow-origin", b"*"), exposed]
        origin = next((value for name, value in scope["headers"] if name == b"origin"), b"")
        vary = (b"vary", b"Origin")
        return [(b"access-control-allow-origin", origin), exposed, vary] if origin in self._origins else [vary]

    def _request_id(self) -> str:
        """24 hexadecimal digits that sort by time: the ledger's index stays compact, which halves the cost of a row."""
        return f"{int(self._clock.now() * 1000):012x}{self._clock.nonce()[:12]}"


class _Passing:
    """One request on its way through the edge, and its answer.

    Args:
        ours: headers that every answer gets.

    Attributes:
        status: of the answer; 0 until it has begun.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, ours: list[tuple[bytes, bytes]], draining: Draining
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._ours = ours
        self._draining = draining
        self._request = draining.arrived()
        self._whole = False
        self.status = 0

    async def through(self, app: ASGIApp) -> None:
        """Has it answered; in words, where the process ends before anybody else had the time."""
        try:
            self._draining.check()
            await app(self._scope, self._noted, self._with_ours)
        except asyncio.CancelledError:
            if self.status or not self._draining.stopped or self._request.uncancel() > 0:
                raise
            await self._answer(GatewayStopping())
        except GatewayError as error:
            if self.status:
                raise
            await self._answer(error)
        except Exception:  # the server logs it
            if not self.status:
                await self._respond(crash_response())
            raise
        finally:
            self._draining.answering(self._request)

    async def _noted(self) -> Message:
        message = await self._receive()
        self._whole = self._whole or not message.get("more_body", False)
        return message

    async def _with_ours(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._ours, *_closing(self._draining)]
            self._draining.answering(self._request)
        elif not self._whole and not message.get("more_body", False) and _sends_and_closes(self._scope):
            await self._send({**message, "more_body": True})
            await _drain(self._receive)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _answer(self, error: GatewayError) -> None:
        await self._respond(error_response(error, language_for(self._scope)))

    async def _respond(self, response: Response) -> None:
        await response(self._scope, self._noted, self._with_ours)


def _closing(draining: Draining) -> list[tuple[bytes, bytes]]:
    """What tells the caller not to ask again on this connection, once it is going to be closed."""
    return [(b"connection", b"close")] if draining.begun else []


def _sends_and_closes(scope: Scope) -> bool:
    """Whether the request has a body, and its connection ends with the answer. Else the server takes what comes until
    the next request. Who asked to be told whether to send it at all has been told."""
    headers = header_map(scope["headers"])
    if b"expect" in headers or not (b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"):
        return False
    return scope.get("http_version") == "1.0" or b"close" in headers.get(b"connection", b"").lower()


async def _drain(receive: Receive) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return


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
