"""POST /v1/chat/completions, as a thin ASGI route: the one hot path.

Status and headers of a stream wait for the first event or for the heartbeat time, whichever comes first; so most faults
still get their own HTTP status, and no client waits for headers longer than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
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
from app.api.language import language_for
from app.api.leaving import unless_gone
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
            call = _Call(scope, receive, send, caller, place, language_for(scope))
            answering = await self._answering(body, call, headers.get(IDEMPOTENCY_KEY))
            del body, headers  # pictures, and more: a long answer must not keep them
            if answering is not None:
                await answering

    async def _answering(self, body: bytes, call: _Call, name: bytes | None) -> Coroutine[Any, Any, None] | None:
        """What answers the request; `None` where that is done already.

        Args:
            name: its Idempotency-Key.
        """
        if not name:
            return self._answer(body, call)
        key_id = call.caller.key_id
        turn = await self._idempotency.turn(name, body, key_id, call.scope, ends_stream=_is_done)
        if isinstance(turn, Response):
            await turn(call.scope, call.receive, call.send)
            return None
        call.send = turn.tapped(call.send)
        return turn.run(self._answer(body, call))

    async def _answer(self, body: bytes, call: _Call) -> None:
        request, include_usage = await self._request(body, call.place)
        del body
        stream = request.stream
        request_id = call.scope["tuwen.request_id"]
        async with self._gateway.open(request, call.caller, request_id) as exchange:
            names = {"id": f"chatcmpl-{request_id}", "model": request.model}
            answer = _Answer(names, exchange, call.place, int(self._clock.now()), call.language)
            del request
            if stream:
                await self._stream(answer, include_usage, call)
            else:
                await _whole(answer, call)

    async def _request(self, data: bytes, place: Place) -> tuple[ChatRequest, bool]:
        """The request, and whether the caller wants the usage chunk."""
        body, unknown = await parse_body(data, place)
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return to_request(body, unknown, max_images=self._max_images), include_usage

    async def _stream(self, answer: _Answer, include_usage: bool, call: _Call) -> None:
        first = await unless_gone(call.receive, answer.next_batch(), wait_s=self._heartbeat_s)
        if first is None:
            return
        if first.done():
            first.result()  # a fault before the first event is an HTTP error: raised here, mapped by the edge
        stream = EventStream(
            answer.chunks(first, include_usage),
            first=first,
            headers=answer.headers(),
            heartbeat=_HEARTBEAT,
            heartbeat_s=self._heartbeat_s,
            longest_s=self._longest_stream_s,
        )
        del first
        call.scope["headers"].clear()  # an SDK's take 3 KiB, and nobody looks at them any more
        await stream.to(call.receive, call.send)


async def _whole(answer: _Answer, call: _Call) -> None:
    task = await unless_gone(call.receive, answer.whole())
    if task is not None:
        response = Response(task.result(), media_type="application/json", headers=answer.headers())
        await response(call.scope, call.receive, call.send)


@dataclass(slots=True)
class _Call:
    """A request that was read, and the way back to its caller."""

    scope: Scope
    receive: Receive
    send: Send
    caller: Caller
    place: Place
    language: Language


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
            del first
            while not isinstance(batch[-1], Finish | Failure):
                yield encoder.encode(batch)
                batch = await anext(self._exchange.batches)
            yield encoder.encode(batch, self._exchange.usage, self._exchange.cost_micros)
        except GatewayError as error:
            yield error_event(error, self._language)
