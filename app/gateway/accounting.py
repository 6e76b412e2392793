"""The meter of one request: taps its events, settles one ledger row, whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from app.accounts.interfaces import AttemptRow, Caller, Ledger, Outcome
from app.accounts.usage import book, book_attempt, is_unpriced, usage_of
from app.config.catalog import Model, Route
from app.core.clock import Clock
from app.core.errors import GatewayError
from app.core.events import Event, Failure, Finish, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from app.core.types import ChatRequest
from app.gateway.estimates import Prompt
from app.media.tokens import text_tokens


@dataclass(slots=True)
class _Attempt:
    """What was asked of whom, and what came of it.

    Args:
        start_s, end_s: monotonic; `end_s` is `None` while it runs.
        begun: whether it has said anything.
    """

    model: Model
    route: Route
    prompt: Prompt
    start_s: float
    end_s: float | None = None
    backend_request_id: str | None = None
    begun: bool = False
    reported: UsageReport | None = None
    output: list[str] = field(default_factory=list)
    outcome: Outcome = "gone"
    error_code: str | None = None

    def note(self, events: Sequence[Event]) -> None:
        self.begun = True
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta):
                self.output.append(event.text)
            elif isinstance(event, ToolCallDelta):
                self.output.append((event.name or "") + event.arguments)
            elif isinstance(event, UsageReport):
                self.reported = event

    def end(self, outcome: Outcome, now_s: float, error_code: str | None = None) -> None:
        if self.end_s is None:
            self.end_s, self.outcome, self.error_code = now_s, outcome, error_code

    def usage(self) -> UsageReport | None:
        """What is to be paid: the backend's report; else, where it answered at all, an estimate that says it is one.

        `None`: it failed before its first word.
        """
        if self.outcome == "failed" and not self.begun:
            return None
        image_count = len(self.prompt.pictures)
        if self.reported is not None:
            return replace(self.reported, image_count=self.reported.image_count or image_count)
        return UsageReport(
            input_tokens=self.prompt.tokens(self.model.image_tokens),
            output_tokens=text_tokens("".join(self.output)),
            image_count=image_count,
            source="estimated",
        )

    def row(self, number: int, now_s: float) -> AttemptRow:
        return book_attempt(
            number=number,
            model=self.model.id,
            backend=self.route.backend.name,
            backend_model=self.route.model,
            backend_request_id=self.backend_request_id,
            usage=self.usage(),
            tariff=self.model.tariff,
            total_ms=((now_s if self.end_s is None else self.end_s) - self.start_s) * 1000,
            outcome=self.outcome,
            error_code=self.error_code,
        )


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
        self._model = self._asked = model
        self._stream = stream
        self._started_at = clock.now()
        self._start_s = clock.monotonic()
        self._first_event_s: float | None = None
        self._attempts: list[_Attempt] = []
        self._outcome: Outcome = "gone"
        self._error_code: str | None = None
        self._settled = False
        self.usage = UsageReport()
        self.cost_micros: int | None = None

    def step(self, model: Model) -> None:
        """Attempts from here on are a recipe's step, taken by this model and paid by its tariff."""
        self._asked = model

    def dispatched(self, route: Route, request: ChatRequest) -> None:
        """A backend is about to be asked: from here on it may bill us."""
        self._attempts.append(_Attempt(self._asked, route, Prompt.of(request), self._clock.monotonic()))

    def answered_as(self, backend_request_id: str | None) -> None:
        """The vendor's id of the running attempt."""
        if self._attempts and backend_request_id:
            self._attempts[-1].backend_request_id = backend_request_id

    def note(self, events: Sequence[Event]) -> None:
        """Notes what the running attempt says, whether the caller hears of it or not; one that ended says no more."""
        attempt = self._attempts[-1]
        if attempt.end_s is not None:
            return
        attempt.note(events)
        if isinstance(events[-1], Finish):
            attempt.end("finished", self._clock.monotonic())

    def attempt_failed(self, error: Exception) -> None:
        """The running attempt, if one runs, ended in this error; another may follow."""
        if self._attempts:
            self._attempts[-1].end("failed", self._clock.monotonic(), _code_of(error))

    def tap(self, events: Sequence[Event]) -> bool:
        """Notes a batch on its way to the caller. True if it ends the answer: then settle before handing it on."""
        if self._first_event_s is None:
            self._first_event_s = self._clock.monotonic()
        self.note(events)
        terminal = events[-1]
        if isinstance(terminal, Finish):
            self._outcome = "finished"
        elif isinstance(terminal, Failure):
            self.failed(terminal.error)
        return isinstance(terminal, Finish | Failure)

    def failed(self, error: Exception) -> None:
        """The request ended in this error."""
        self._outcome = "failed"
        self._error_code = _code_of(error)
        self.attempt_failed(error)

    async def settle(self) -> None:
        """Books the request, once; returns when the row is durable."""
        if self._settled:
            return
        self._settled = True
        now_s = self._clock.monotonic()
        attempts = [attempt.row(number, now_s) for number, attempt in enumerate(self._attempts, 1)]
        self.usage = usage_of(attempts)
        first_event_s = self._first_event_s
        row = book(
            request_id=self._request_id,
            started_at=self._started_at,
            key_id=self._caller.key_id,
            model=self._model.id,
            stream=self._stream,
            attempts=attempts,
            tariff=self._model.tariff,
            first_event_ms=None if first_event_s is None else (first_event_s - self._start_s) * 1000,
            total_ms=(now_s - self._start_s) * 1000,
            outcome=self._outcome,
            error_code=self._error_code,
        )
        self.cost_micros = None if is_unpriced(row) else row.cost_micros
        await self._ledger.settle(row)

    async def __aenter__(self) -> Meter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outcome == "gone" and isinstance(error, Exception):
            self.failed(error)
        # Handing the row to the ledger comes before its first await, so a cancelled task still books.
        await self.settle()


def _code_of(error: Exception) -> str | None:
    return error.code if isinstance(error, GatewayError) else "internal_error"
