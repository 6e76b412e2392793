"""Baidu's 智慧图问 (ChatOCR), served to clients written for it: its token endpoint, and the plugin `uuid-chatocr`.

* Errors come with HTTP status 200 and `error_code`, as the vendor's do and its SDK expects; only a failed signature has
  a status of its own. So they do before the first packet of a stream, whatever was asked.
* A stream has neither comments nor `[DONE]`: the SDK takes any line that does not begin with `data: ` for a fault. What
  keeps a silent connection alive is an empty line, which every reader skips.
* A verbose stream begins with an echo that holds the whole answer; so it waits for the answer, as the vendor's must
  have. Whoever wants words early leaves `verbose` off, as by default. Sending the echo at once with an empty
  `llm_result` would break those who read the answer there, and help nobody: the vendor never sent early words with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import assert_never
from urllib.parse import parse_qsl

import msgspec
from sse_starlette.event import ServerSentEvent
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from app.accounts.interfaces import Caller
from app.api.body import OFF_LOOP_BYTES, CallerLeft, read_body
from app.api.deps import header_map
from app.api.errors import answered_as
from app.api.event_stream import EventStream
from app.api.intake import Intake, Place
from app.api.language import language_for
from app.api.leaving import unless_gone
from app.api.vendor.baidu_auth import BaiduAuth, BaiduRefusal, OAuthRefusal
from app.api.vendor.chatocr_wire import (
    AnswerWriter,
    PluginBody,
    PluginFault,
    error_body,
    log_id_of,
    read_plugin_body,
    to_request,
    vendor_error,
)
from app.config.catalog import Catalog
from app.core.errors import GatewayError, Language, RequestError
from app.core.events import (
    AnswerFold,
    Event,
    Failure,
    Finish,
    OcrRegions,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from app.gateway.pipeline import Exchange, Gateway

MODEL = "chatocr-vision"
WITHOUT_ACCOUNTS = "local-ocr-vision"

_FORM_MAX_BYTES = 64 * 1024
_STILL_HERE = b"\n"
_HEARTBEAT = ServerSentEvent(sep="\n")
"""An event of nothing at all: an empty line."""


def routes(plugin: PluginEndpoint, auth: BaiduAuth, intake: Intake) -> list[BaseRoute]:
    """Its routes, at the vendor's paths; the edge has taken the slash off their end."""
    return [
        Route("/oauth/2.0/token", TokenEndpoint(auth, intake), methods=["GET", "POST"]),
        Route("/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/{name:path}", plugin, methods=["POST"]),
    ]


class TokenEndpoint:
    """Gives out access tokens. The query counts; a form in the body fills what it lacks."""

    def __init__(self, auth: BaiduAuth, intake: Intake) -> None:
        self._auth = auth
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, answer = 200, await self._auth.grant(await self._parameters(scope, receive))
        except CallerLeft:
            return
        except OAuthRefusal as refusal:
            status, answer = refusal.status, {"error": refusal.error, "error_description": refusal.description}
        except RequestError as error:
            status, answer = answered_as(type(error))[0], {"error": "invalid_request", "error_description": str(error)}
        except GatewayError as error:
            status, answer = 503, {"error": "temporarily_unavailable", "error_description": str(error)}
        response = _json(msgspec.json.encode(answer), status)
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    async def _parameters(self, scope: Scope, receive: Receive) -> dict[str, str]:
        headers = header_map(scope["headers"])
        query = scope["query_string"].decode("latin-1")
        form = ""
        if headers.get(b"content-type", b"").lower().startswith(b"application/x-www-form-urlencoded"):
            with self._intake.place() as place:
                form = (await read_body(receive, headers, _FORM_MAX_BYTES, place)).decode("latin-1")
        return dict(parse_qsl(form)) | dict(parse_qsl(query))


class PluginEndpoint:
    """Answers as the plugin.

    Args:
        intake: the room for bodies.
        catalog: the models at this moment.
        heartbeat_s: how long the headers of a stream may wait for its first packet, and how long it may be silent.
        deadline_s: the gateway's bound on a whole answer; a caller who does not read it is left a heartbeat later.
        max_body_bytes: bound on a request's body.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        auth: BaiduAuth,
        intake: Intake,
        catalog: Callable[[], Catalog],
        heartbeat_s: float,
        deadline_s: float,
        max_body_bytes: int,
    ) -> None:
        self._gateway = gateway
        self._auth = auth
        self._intake = intake
        self._catalog = catalog
        self._heartbeat_s = heartbeat_s
        self._longest_stream_s = deadline_s + heartbeat_s
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        log_id, language = log_id_of(scope["tuwen.request_id"]), language_for(scope, default="zh")
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._answer(scope, receive, send_noted, language)
        except CallerLeft:
            return
        except BaiduRefusal as refusal:
            response = _json(vendor_error(refusal.code, refusal.message, log_id), refusal.status)
            response.headers.update(refusal.headers)
            await response(scope, receive, send)
        except (GatewayError, PluginFault) as error:
            if begun:  # the ledger failed after the answer: there is nobody left to tell but the log
                raise
            await _json(error_body(error, log_id, language))(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, language: Language) -> None:
        caller = await self._auth.caller(scope)
        with self._intake.place() as place:
            await self._answer_to(caller, scope, receive, send, place=place, language=language)

    async def _answer_to(
        self, caller: Caller, scope: Scope, receive: Receive, send: Send, *, place: Place, language: Language
    ) -> None:
        body = await self._body(scope, receive, place)
        request_id = scope["tuwen.request_id"]
        request = to_request(body, self._model(scope["path_params"]["name"]))
        stream, verbose = request.stream, bool(body.verbose)
        writer = AnswerWriter(body, request_id)
        del body  # like the request, it may hold a picture
        async with self._gateway.open(request, caller, request_id) as exchange:
            answer = _Answer(exchange, place, writer, language, verbose=verbose)
            del request
            if stream:
                await self._stream(answer, scope, receive, send)
            else:
                task = await unless_gone(receive, answer.whole())
                if task is not None:
                    await _json(task.result(), headers=answer.headers())(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive, place: Place) -> PluginBody:
        data = await read_body(receive, header_map(scope["headers"]), self._max_body_bytes, place)
        if len(data) > OFF_LOOP_BYTES:
            async with place.at_work:
                return await asyncio.to_thread(read_plugin_body, data)
        return read_plugin_body(data)

    def _model(self, name: str) -> str:
        """The service's name, where it is a model of the catalogue; else the model made for this. A wildcard is no
        such name: old clients carry the one that the vendor's console gave them."""
        exact = {known: model for model in self._catalog().models for known in (model.id, *model.aliases)}
        if name in exact and not exact[name].wildcard:
            return name
        return MODEL if MODEL in exact and exact[MODEL].available else WITHOUT_ACCOUNTS

    async def _stream(self, answer: _Answer, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(answer.pieces()) as pieces:
            first = await unless_gone(receive, _next(pieces), wait_s=self._heartbeat_s)
            if first is None:
                return
            if first.done():
                first.result()  # a fault before the first packet is an answer of its own
            stream = EventStream(
                answer.stream(first, pieces),
                first=first,
                headers=answer.headers(),
                heartbeat=_HEARTBEAT,
                heartbeat_s=self._heartbeat_s,
                longest_s=self._longest_stream_s,
            )
            await stream.to(receive, send)


async def _next(pieces: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(pieces)


class _Answer:
    """One answer on its way out."""

    def __init__(
        self, exchange: Exchange, place: Place, writer: AnswerWriter, language: Language, *, verbose: bool
    ) -> None:
        self._exchange = exchange
        self._place = place
        self._writer = writer
        self._language = language
        self._verbose = verbose

    def headers(self) -> dict[str, str]:
        """What was clamped or left out."""
        notices = "; ".join(self._exchange.notices)
        return {"x-tuwen-notice": notices.encode("ascii", "replace").decode()} if notices else {}

    async def whole(self) -> bytes:
        """The answer in one piece."""
        fold = AnswerFold()
        async for batch in self._exchange.batches:
            self._place.leave()
            for event in batch:
                fold.add(event)
        answer = fold.answer()
        return self._writer.whole(answer.text, answer.regions if self._verbose else None)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The stream, one piece per read of the backend; of a verbose one, all of it once the answer is whole.

        Raises:
            GatewayError: the answer broke.
        """
        if self._verbose:
            yield await self._echoed()
            return
        async for batch in self._exchange.batches:
            self._place.leave()
            if piece := self._packets(batch):
                yield piece

    async def stream(
        self, first: asyncio.Future[bytes], others: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """What is sent: the pieces, and what keeps the connection alive before the first."""
        if not first.done():
            yield _STILL_HERE
        try:
            yield await first
            async for piece in others:
                yield piece
        except GatewayError as error:
            yield self._writer.error(error, self._language)

    async def _echoed(self) -> bytes:
        fold, events = AnswerFold(), list[Event]()
        async for batch in self._exchange.batches:
            self._place.leave()
            for event in batch:
                fold.add(event)
                events.append(event)
        answer = fold.answer()
        return self._writer.echo(answer.text, answer.regions) + self._packets(events)

    def _packets(self, events: Iterable[Event]) -> bytes:
        packets = []
        for event in events:
            match event:
                case TextDelta(text):
                    packets.append(self._writer.delta(text))
                case Finish():
                    packets.append(self._writer.end())
                case Failure(error):
                    raise error
                case OcrRegions() | ReasoningDelta() | ToolCallDelta() | UsageReport():
                    pass
                case _:  # pragma: no cover - the type checker proves it cannot be reached
                    assert_never(event)
        return b"".join(packets)


def _json(content: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(content, status, headers, media_type="application/json")
