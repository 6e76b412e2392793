"""The meter of one request: taps its events, settles one ledger row, whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from app.accounts.interfaces import Caller, Ledger, Outcome
from app.accounts.usage import book
from app.config.catalog import Model, Route
from app.core.clock import Clock
from app.core.errors import GatewayError
from app.core.events import Event, Failure, Finish, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from app.core.types import ChatRequest
from app.gateway.estimates import Prompt
from app.media.tokens import text_tokens


@dataclass(slots=True)
class _Attempt:
    """What was asked of whom; the last attempt is the one that is booked."""

    route: Route
    prompt: Prompt
    backend_request_id: str | None = None


class Meter:
    """One request's meter. An async context: leaving it settles, however it is left.

    Settling hangs on leaving the context, not on a body generator's `finally`: a generator that never started never
    runs its `finally`, and a caller can leave in exactly that moment.
    """

    def __init__(self, ledger: Ledger, clock: Clock, *, request_id: str, caller: Caller, model: Model, stream: bool):
        self._ledger = ledger
        self._clock = clock
        self._request_id = request_id
        self._caller = caller
        self._model = model
        self._stream = stream
        self._started_at = clock.now()
        self._start_s = clock.monotonic()
        self._first_event_s: float | None = None
        self._attempt: _Attempt | None = None
        self._reported: UsageReport | None = None
        self._output: list[str] = []
        self._outcome: Outcome = "gone"
        self._error_code: str | None = None
        self._settled = False
        self.usage = UsageReport()

    def dispatched(self, route: Route, request: ChatRequest) -> None:
        """A backend is about to be asked: from here on it may bill us."""
        self._attempt = _Attempt(route, Prompt.of(request))

    def answered_as(self, backend_request_id: str | None) -> None:
        """The vendor's id of the running attempt."""
        if self._attempt is not None and backend_request_id:
            self._attempt.backend_request_id = backend_request_id

    def tap(self, events: Sequence[Event]) -> bool:
        """Notes a batch on its way to the caller. True if it ends the answer: then settle before handing it on."""
        if self._first_event_s is None:
            self._first_event_s = self._clock.monotonic()
        ended = False
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta):
                self._output.append(event.text)
            elif isinstance(event, ToolCallDelta):
                self._output.append((event.name or "") + event.arguments)
            elif isinstance(event, UsageReport):
                self._reported = event
            elif isinstance(event, Finish):
                self._outcome = "finished"
                ended = True
            elif isinstance(event, Failure):
                self.failed(event.error)
                ended = True
        return ended

    def failed(self, error: Exception) -> None:
        """The request ended in this error."""
        self._outcome = "failed"
        self._error_code = error.code if isinstance(error, GatewayError) else "internal_error"

    async def settle(self) -> None:
        """Books the request, once; returns when the row is durable."""
        if self._settled:
            return
        self._settled = True
        usage = self._usage()
        self.usage = usage or self.usage
        attempt = self._attempt
        first_event_s = self._first_event_s
        row = book(
            request_id=self._request_id,
            started_at=self._started_at,
            key_id=self._caller.key_id,
            model=self._model.id,
            backend=attempt.route.backend.name if attempt else "",
            backend_model=attempt.route.model if attempt else "",
            backend_request_id=attempt.backend_request_id if attempt else None,
            stream=self._stream,
            usage=usage,
            tariff=self._model.tariff,
            first_event_ms=None if first_event_s is None else round((first_event_s - self._start_s) * 1000),
            total_ms=round((self._clock.monotonic() - self._start_s) * 1000),
            outcome=self._outcome,
            error_code=self._error_code,
        )
        await self._ledger.settle(row)

    def _usage(self) -> UsageReport | None:
        """What is to be paid: the backend's report; else, where it answered at all, an estimate that says it is one.

        `None`: no backend was asked, or it failed before its first word.
        """
        attempt = self._attempt
        if attempt is None or (self._outcome == "failed" and self._first_event_s is None):
            return None
        image_count = len(attempt.prompt.pictures)
        if self._reported is not None:
            return replace(self._reported, image_count=self._reported.image_count or image_count)
        return UsageReport(
            input_tokens=attempt.prompt.tokens(self._model.image_tokens),
            output_tokens=text_tokens("".join(self._output)),
            image_count=image_count,
            source="estimated",
        )

    async def __aenter__(self) -> Meter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outcome == "gone" and isinstance(error, Exception):
            self.failed(error)
        # Handing the row to the ledger comes before its first await, so a cancelled task still books.
        await self.settle()
