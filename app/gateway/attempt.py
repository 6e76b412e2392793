"""Routes tried in order: translator × transport → events. Before the first event the next route may be tried; after it
there is no turning back."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import stamina
import structlog

from app.backends.base import Translator
from app.config.catalog import Model, Pace, Route
from app.core.clock import Clock
from app.core.errors import (
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    GatewayError,
    ImageRejected,
    InternalError,
    RecordsUnavailable,
)
from app.core.events import Event, Failure, Finish, UsageReport
from app.core.types import Call, ChatRequest, Context, Frame
from app.gateway.accounting import Meter
from app.gateway.content_log import NOBODY, Witness
from app.gateway.discretion import Discretion
from app.gateway.estimates import Prompt, within_context
from app.gateway.fitting import Fitting
from app.gateway.history import trimmed
from app.gateway.patience import Patience
from app.gateway.queueing import Passage
from app.gateway.retrying import WAIT_INITIAL_S, WAIT_JITTER_S, WAIT_MAX_S, Itinerary, RetryRules
from app.gateway.routing import capabilities_for
from app.gateway.tailoring import retold, tailor
from app.gateway.tally import longest_output_tokens
from app.transports.base import Reply, Transport

_log = structlog.get_logger(__name__)

# in English and Chinese
_FAILED = (
    "The gateway failed on this request; the operator's log says why.",
    "网关处理此请求时出错，原因见管理员的日志。",
)
_TOO_LATE = ("The model's backend did not answer in time; try again.", "模型服务未能及时回答，请重试。")
_PICTURES_TOO_LATE = (
    "The pictures could not be had in time; send them as data URLs, or fewer of them.",
    "未能及时取得图片，请以 data URL 发送，或减少图片数量。",
)


@dataclass(frozen=True, slots=True)
class Clocks:
    """How long one route may take, by what is waited for; and the whole request.

    Args:
        first_event_s: from dispatch to the first event.
        idle_s: between events; comments and empty frames do not count.
    """

    connect_s: float = 10.0
    first_event_s: float = 120.0
    idle_s: float = 60.0
    deadline_s: float = 600.0

    def at(self, pace: Pace) -> Clocks:
        """Those of a route to a backend that has its own."""
        return Clocks(
            pace.connect_s or self.connect_s,
            pace.first_event_s or self.first_event_s,
            pace.idle_s or self.idle_s,
            self.deadline_s,
        )


class PassageTo(Protocol):
    """The way of the request that runs to a route of a model, to be entered."""

    def __call__(self, route: Route, model: Model, *, tokens: Callable[[], int]) -> Passage: ...


class Attempts:
    """The attempts of one request.

    Args:
        passage: the way to a route's backend, where others may be before us.
        rules: how attempts are repeated. granted: asks for one more of them.
        transports: by the type of the call they carry.
        witness: sees the pictures as they were fitted.
    """

    def __init__(
        self,
        *,
        model: Model,
        routes: Sequence[Route],
        request: ChatRequest,
        meter: Meter,
        passage: PassageTo,
        rules: RetryRules,
        granted: Callable[[], bool],
        fitting: Fitting,
        transports: Mapping[type[Call], Transport],
        clock: Clock,
        clocks: Clocks,
        witness: Witness = NOBODY,
    ) -> None:
        self._model = model
        self._routes = routes
        self._request = request
        self._meter = meter
        self._passage = passage
        self._rules = rules
        self._granted = granted
        self._fitting = fitting
        self._transports = transports
        self._clock = clock
        self._clocks = clocks
        self._witness = witness
        self._deadline_s = asyncio.get_running_loop().time() + clocks.deadline_s
        self.notices: list[str] = []
        self._discretion = Discretion(routes[0])

    async def batches(self) -> AsyncGenerator[Sequence[Event], None]:
        """The answer's events, in batches: what one read of the wire held. The last batch ends with the terminal.

        Raises:
            GatewayError: no route answered. Once a batch was given, faults come as `Failure` instead.
        """
        batch, rest = await self._begun()
        async with aclosing(rest):
            self._request = replace(self._request, messages=())  # nobody else will be asked: its pictures may go
            yield batch
            try:
                async for batch in rest:
                    yield batch
            except GatewayError as fault:
                self._note(fault)
                yield [Failure(fault)]
            except Exception as error:  # noqa: BLE001 - as above
                yield [Failure(self._bug(error))]

    async def _begun(self) -> tuple[Sequence[Event], AsyncGenerator[Sequence[Event], None]]:
        """Asks until somebody answers: the first batch, and the others, for who closes them.

        Raises:
            GatewayError: nobody does.
        """
        way = self._way = Itinerary(self._routes, self._rules, self._granted, self._left_s)
        try:
            return await self._tried(way)
        except GatewayError as fault:
            first = fault
        return await self._begun_after(first, way)

    async def _begun_after(
        self, first: GatewayError, way: Itinerary
    ) -> tuple[Sequence[Event], AsyncGenerator[Sequence[Event], None]]:
        """The attempts after the first, which failed. stamina's loop costs a sixth of a request that goes well, so it
        is asked only now, and told of the first fault as if it had been there."""
        fault: GatewayError | None = first
        async for trial in stamina.retry_context(
            on=way.after,
            attempts=None,
            timeout=None,
            wait_initial=WAIT_INITIAL_S,
            wait_max=WAIT_MAX_S,
            wait_jitter=WAIT_JITTER_S,
        ):
            with trial:
                if fault is not None:
                    told, fault = fault, None
                    raise told
                return await self._tried(way)
        raise AssertionError  # pragma: no cover - the last attempt has returned or raised

    async def _tried(self, way: Itinerary) -> tuple[Sequence[Event], AsyncGenerator[Sequence[Event], None]]:
        """One attempt's first batch, and its others.

        Raises:
            GatewayError: it failed.
        """
        self._discretion = Discretion(way.route)
        batches = self._attempt(way.number, way.route)
        try:
            return await anext(batches), batches
        except GatewayError as fault:
            self._note(fault)
            raise
        except Exception as error:  # a bug of ours costs one request, and its caller is told in words
            raise self._bug(error) from error

    def _left_s(self) -> float:
        return self._deadline_s - asyncio.get_running_loop().time()

    def _bug(self, error: Exception) -> InternalError:
        fault = InternalError(_FAILED[0], chinese=_FAILED[1])
        fault.__cause__ = error
        self._note(fault)
        return fault

    def _note(self, fault: GatewayError) -> None:
        """The running attempt ended in this."""
        self._discretion.apply(fault)
        self._log_fault(fault, self._way.number, self._way.route)
        self._meter.attempt_failed(fault)

    def _log_fault(self, fault: GatewayError, number: int, route: Route) -> None:
        what = {
            "request_id": self._meter.request_id,
            "attempt": number,
            "backend": route.backend.name,
            "model": route.model,
        }
        match fault:
            case BackendMisconfigured():
                remedy = "look at its section in models.toml, and at our account there"
                _log.error("backend fault", **what, **_told_of(fault), remedy=remedy)
            case BackendError():
                _log.warning("backend fault", **what, **_told_of(fault))
            case RecordsUnavailable():
                pass  # said once an outage, by those who write
            case InternalError():
                trace = "".join(traceback.format_exception(fault))
                _log.error("gateway fault", **what, exception=self._discretion.told(trace))
            case _:
                pass  # the caller's to fix, and the caller is told

    async def _attempt(self, number: int, route: Route) -> AsyncGenerator[Sequence[Event], None]:
        with self._rules.health.trial(route) as trial:
            translator = route.translator()
            request, notices = await self._suited(route)
            self._witness.fitted(request)
            async with self._passage(route, self._model, tokens=partial(self._most_tokens, route, request)) as passage:
                await self._turn(passage, route, request)
                self._discretion.asked(request)
                call = self._call(translator, request, number)
                self._discretion.sent(call)
                del request
                self.notices[:] = [*notices, *translator.notices]
                clocks = self._clocks.at(route.backend.pace)
                transport = self._transports[type(call)]
                opening = transport.open(call, backend=route.backend.name, connect_s=clocks.connect_s)
                queues = transport.queues
                del call  # it holds the pictures, and the answer may be long
                try:
                    async with aclosing(self._answer(opening, translator, route, clocks, queues=queues)) as batches:
                        async for batch in batches:
                            trial.answered()
                            yield batch
                finally:
                    passage.used(self._meter.attempt_tokens)

    async def _turn(self, passage: Passage, route: Route, request: ChatRequest) -> None:
        """Sets money aside, waits for the backend to have room, and says that it is asked now."""
        try:
            await self._meter.hold(route, request, dispatched=passage.immediate)
            if not passage.immediate:
                try:
                    await passage.wait(self._deadline_s - asyncio.get_running_loop().time())
                finally:
                    self._meter.queued_ms += passage.queued_ms
                await self._meter.dispatch()
        except BaseException:
            passage.unused()
            raise

    def _most_tokens(self, route: Route, request: ChatRequest) -> int:
        prompt_tokens = Prompt.of(request).tokens(self._model.image_tokens)
        return prompt_tokens + longest_output_tokens(request.max_output_tokens, self._model, route, prompt_tokens)

    async def _answer(
        self,
        opening: AbstractAsyncContextManager[Reply],
        translator: Translator,
        route: Route,
        clocks: Clocks,
        *,
        queues: bool,
    ) -> AsyncGenerator[Sequence[Event], None]:
        patience = Patience(self._deadline_s)
        if not queues:
            patience.extend(clocks.first_event_s)
        try:
            reply = await patience.wait(opening.__aenter__())
            try:
                if queues:
                    patience.extend(clocks.first_event_s)
                self._discretion.let_in_by(reply.secrets)
                if reply.status >= 400:
                    raise translator.refused(reply.status, reply.headers, await patience.wait(reply.body()))
                async with aclosing(reply.frames()) as frames:
                    fault, begun, said = None, False, list[Event]()
                    while fault is None:
                        events, fault = await _next_events(frames, translator, patience)
                        said += events
                        speaks = _speaks(events)
                        begun = begun or speaks
                        if not (begun and said):
                            continue
                        self._meter.answered_as(self._discretion.told_id(translator.backend_request_id))
                        yield said
                        if isinstance(said[-1], Finish):
                            return
                        said = []
                        if speaks:  # after the yield: that a caller reads slowly is not the backend's silence
                            patience.extend(clocks.idle_s)
                    raise fault
            finally:
                await opening.__aexit__(None, None, None)
        except TimeoutError as error:
            english, chinese = _TOO_LATE
            detail = "one of our clocks ran out"
            raise BackendTimeout(english, chinese=chinese, backend=route.backend.name, detail=detail) from error
        finally:
            patience.end()

    async def _suited(self, route: Route) -> tuple[ChatRequest, list[str]]:
        """The request made into one that the route takes, and a notice per thing that this changed."""
        bound, able = self._model.max_output_tokens, capabilities_for(route, self._request)
        wanted, notices = tailor(self._request, able, model=route.model, max_output_tokens=bound)
        try:
            async with asyncio.timeout_at(self._deadline_s):
                request, drawn = await self._fitting.fitted(wanted, route.capabilities)
        except TimeoutError as error:
            english, chinese = _PICTURES_TOO_LATE
            raise ImageRejected(english, chinese=chinese, param="messages", code="image_fetch_failed") from error
        request, forgotten = trimmed(request, route.capabilities, self._model.image_tokens)
        request = within_context(retold(request, route.capabilities), self._model, route.capabilities)
        return request, [*notices, *drawn, *forgotten]

    def _call(self, translator: Translator, request: ChatRequest, number: int) -> Call:
        now = self._clock.now()
        context = Context(
            request_id=self._meter.request_id,
            attempt=number,
            now=now,
            deadline=now + self._deadline_s - asyncio.get_running_loop().time(),
            nonce=self._clock.nonce(),
        )
        return translator.call(request, context)


def _told_of(fault: BackendError) -> dict[str, str | None]:
    return {"error": type(fault).__name__, "backend_code": fault.backend_code, "detail": fault.detail}


def _speaks(events: Sequence[Event]) -> bool:
    """Whether there is a word in it. What an answer takes is none: some backends tell it anew every second."""
    return any(not isinstance(event, UsageReport) for event in events)


async def _next_events(
    frames: AsyncIterator[Sequence[Frame]], translator: Translator, patience: Patience
) -> tuple[list[Event], GatewayError | None]:
    """What the next read holds, as `_decoded` gives it. A backend that has said why it finished has answered in full,
    though it then falls silent or breaks the connection: what it still owes is its usage."""
    try:
        return _decoded(translator, await patience.wait(anext(frames, None)))
    except (TimeoutError, BackendError):
        events, fault = _decoded(translator, None)
        if fault is not None:
            raise
        return events, None


def _decoded(translator: Translator, frames: Sequence[Frame] | None) -> tuple[list[Event], GatewayError | None]:
    """The events of a batch of frames up to the terminal (`None`: the backend has ended), and the fault that ended
    them: text that came before a fault in the same read is not lost."""
    events: list[Event] = []
    try:
        if frames is None:
            events.extend(translator.receive_eof())
            return events, None if events else InternalError("a translator ended without a terminal")
        for frame in frames:
            for event in translator.receive(frame):
                events.append(event)
                if isinstance(event, Finish):
                    return events, None
    except GatewayError as error:
        return events, error
    return events, None
