"""POST /v1/chat/completions, as a thin ASGI route: the one hot path.

Status and headers of a stream wait for the first event or for the heartbeat time, whichever comes first; so most faults
still get their own HTTP status, and no client waits for headers longer than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from typing import Any

from sse_starlette.event import ServerSentEvent
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.accounts.interfaces import Caller, CallerSource
from app.api.body import CallerLeft, parse_body, read_body
from app.api.convert import to_request
from app.api.deps import header_map, presented_key
from app.api.event_stream import EventStream
from app.api.idempotency import HEADER as IDEMPOTENCY_KEY
from app.api.idempotency import Idempotency
from app.api.intake import Intake, Place
from app.api.language import language_of
from app.api.leaving import cancelled, unless_gone
from app.api.sse import DONE, ChunkEncoder, error_event
from app.api.whole import completion
from app.core.clock import Clock
from app.core.errors import GatewayError, Language
from app.core.events import AnswerFold, Event, Failure, Finish
from app.core.money import format_yuan
from app.core.types import ChatRequest
from app.gateway.pipeline import Exchange, Gateway

_BEGIN_WAITING = ": \n\n"
_HEARTBEAT = ServerSentEvent(comment="", sep="\n")


class ChatEndpoint:
    """Answers chat requests.

    Args:
        intake: the room for bodies.
        heartbeat_s: how long headers may wait for the first event, and how often a silent stream gets a comment.
        deadline_s: the gateway's bound on a whole answer; a caller who does not read it is left a heartbeat later.
        max_body_bytes: bound on a request's body. max_images: bound on its pictures.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        authenticator: CallerSource,
        idempotency: Idempotency,
        intake: Intake,
        clock: Clock,
        heartbeat_s: float,
        deadline_s: float,
        max_body_bytes: int,
        max_images: int,
    ) -> None:
        self._gateway = gateway
        self._authenticator = authenticator
        self._idempotency = idempotency
        self._intake = intake
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._longest_stream_s = deadline_s + heartbeat_s
        self._max_body_bytes = max_body_bytes
        self._max_images = max_images

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = header_map(scope["headers"])
        caller = await self._authenticator.caller(presented_key(headers))
        with self._intake.place() as place:
            try:
                body = await read_body(receive, headers, self._max_body_bytes, place)
            except CallerLeft:
                return
            answering = await self._answering(body, scope, receive, send, place=place, caller=caller)
            del body  # its pictures: a long answer must not keep them
            if answering is not None:
                await answering

    async def _answering(
        self,
        body: bytes,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        place: Place,
        caller: Caller,
    ) -> Coroutine[Any, Any, None] | None:
        """What answers the request; `None` where that is done already."""
        headers = header_map(scope["headers"])
        language = language_of(headers.get(b"accept-language", b"").decode("latin-1"))
        if name := headers.get(IDEMPOTENCY_KEY):
            turn = await self._idempotency.turn(name, body, caller.key_id, scope, ends_stream=_is_done)
            if isinstance(turn, Response):
                await turn(scope, receive, send)
                return None
            tapped = turn.tapped(send)
            return turn.run(self._answer(body, scope, receive, tapped, place=place, caller=caller, language=language))
        return self._answer(body, scope, receive, send, place=place, caller=caller, language=language)

    async def _answer(
        self,
        body: bytes,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        place: Place,
        caller: Caller,
        language: Language,
    ) -> None:
        request, include_usage = await self._request(body, place)
        del body
        stream = request.stream
        async with self._gateway.open(request, caller, scope["tuwen.request_id"]) as exchange:
            created = int(self._clock.now())
            names = {"id": f"chatcmpl-{scope['tuwen.request_id']}", "model": request.model}
            answer = _Answer(names, exchange, place, created, language)
            del request
            if stream:
                await self._stream(answer, include_usage, scope, receive, send)
            else:
                await self._whole(answer, scope, receive, send)

    async def _request(self, data: bytes, place: Place) -> tuple[ChatRequest, bool]:
        """The request, and whether the caller wants the usage chunk."""
        body, unknown = await parse_body(data, place)
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return to_request(body, unknown, max_images=self._max_images), include_usage

    async def _whole(self, answer: _Answer, scope: Scope, receive: Receive, send: Send) -> None:
        task = await unless_gone(receive, answer.whole())
        if task is not None:
            response = Response(task.result(), media_type="application/json", headers=answer.headers())
            await response(scope, receive, send)

    async def _stream(self, answer: _Answer, include_usage: bool, scope: Scope, receive: Receive, send: Send) -> None:
        first = await unless_gone(receive, answer.next_batch(), wait_s=self._heartbeat_s)
        if first is None:
            return
        if first.done():
            first.result()  # a fault before the first event is an HTTP error: raised here, mapped by the app
        response = EventStream(
            answer.chunks(first, include_usage),
            headers=answer.headers(),
            heartbeat=_HEARTBEAT,
            heartbeat_s=self._heartbeat_s,
            longest_s=self._longest_stream_s,
        )
        try:
            await response(scope, receive, send)
        finally:
            if not first.done():  # the stream ended before it got to await the first event
                await cancelled(first)


def _is_done(piece: bytes) -> bool:
    """Whether a stream ends here as a good one does; a model's own words cannot hold a line end."""
    return piece.endswith(DONE)


class _Answer:
    """One answer on its way out."""

    def __init__(
        self,
        names: Mapping[str, str],
        exchange: Exchange,
        place: Place,
        created: int,
        language: Language,
    ) -> None:
        self._exchange = exchange
        self._place = place
        self._language = language
        self._names = names
        self._created = created

    def headers(self) -> dict[str, str]:
        """How full the key's limits are; what was clamped or left out; how long it waited for its turn; what it cost,
        where that is known by now."""
        exchange = self._exchange
        headers = dict(exchange.rates)
        if notices := "; ".join(exchange.notices):
            headers["x-tuwen-notice"] = notices.encode("ascii", "replace").decode()
        if exchange.queued_ms:
            headers["x-tuwen-queued-ms"] = str(exchange.queued_ms)
        if exchange.cost_micros is not None:
            headers["x-tuwen-cost"] = format_yuan(exchange.cost_micros)
        return headers

    async def next_batch(self) -> Sequence[Event]:
        batch = await anext(self._exchange.batches)
        self._place.leave()  # the answer has begun: its request's pictures are let go
        return batch

    async def whole(self) -> bytes:
        """The `chat.completion` document."""
        fold = AnswerFold()
        async for batch in self._exchange.batches:
            self._place.leave()
            for event in batch:
                fold.add(event)
        exchange = self._exchange
        return completion(fold.answer(), exchange.usage, exchange.cost_micros, created=self._created, **self._names)

    async def chunks(self, first: asyncio.Task[Sequence[Event]], include_usage: bool) -> AsyncGenerator[bytes, None]:
        """The stream, one piece per read of the backend."""
        encoder = ChunkEncoder(
            created=self._created, include_usage=include_usage, language=self._language, **self._names
        )
        if not first.done():
            yield _BEGIN_WAITING.encode()
        try:
            batch = await first
            while not isinstance(batch[-1], Finish | Failure):
                yield encoder.encode(batch)
                batch = await anext(self._exchange.batches)
            yield encoder.encode(batch, self._exchange.usage, self._exchange.cost_micros)
        except GatewayError as error:
            yield error_event(error, self._language)
