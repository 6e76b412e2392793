"""The meter of one request: has money set aside, taps its events, settles one ledger row, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType

from app.accounts.balances import BudgetSpan
from app.accounts.details import Detail, Fault
from app.accounts.interfaces import AttemptRow, Caller, HoldOrder, HoldRefusal, Ledger, LedgerRow, Outcome, RowState
from app.accounts.usage import book, is_unpriced, usage_of
from app.config.catalog import Model, Route
from app.core.clock import Clock, local_day
from app.core.errors import (
    BackendError,
    GatewayError,
    PermissionDenied,
    QuotaExceeded,
    RecordsUnavailable,
    RequestError,
    shown,
)
from app.core.events import Event, Failure, Finish, UsageReport
from app.core.money import format_yuan
from app.core.types import ChatRequest
from app.gateway.books import Books
from app.gateway.estimates import Prompt
from app.gateway.tally import Tally, longest_output_tokens

LEASE_S = 20.0
"""So long a row stays open unheard of; then whoever finds it closes it."""

# in English and Chinese
_EXHAUSTED: dict[BudgetSpan, tuple[str, str]] = {
    "total": (
        "The balance of this key does not carry the request: it may cost up to {wanted} yuan, and {left} are left. "
        "Ask the operator for a top-up.",
        "此密钥的余额不足：本次请求最多可能花费 {wanted} 元，余额 {left} 元。请联系管理员充值。",
    ),
    "day": (
        "The daily budget of this key does not carry the request: it may cost up to {wanted} yuan, and {left} are "
        "left today.",
        "此密钥的当日预算不足：本次请求最多可能花费 {wanted} 元，今日剩余 {left} 元。",
    ),
    "month": (
        "The monthly budget of this key does not carry the request: it may cost up to {wanted} yuan, and {left} are "
        "left this month.",
        "此密钥的当月预算不足：本次请求最多可能花费 {wanted} 元，本月剩余 {left} 元。",
    ),
}


class Meter:
    """One request's meter. An async context: leaving it settles, however it is left.

    Settling hangs on leaving the context, not on a body generator's `finally`: a generator that never started never
    runs its `finally`, and a caller can leave in exactly that moment.

    Args:
        books: where it is known while it is open, so that its row's lease is pushed on.

    Attributes:
        faults: what went wrong with attempts, for operators.
        booked: the row, once it is.
    """

    def __init__(
        self,
        ledger: Ledger,
        books: Books,
        clock: Clock,
        *,
        request_id: str,
        caller: Caller,
        model: Model,
        stream: bool,
    ) -> None:
        self._ledger = ledger
        self._books = books
        self._clock = clock
        self.request_id = request_id
        self._caller = caller
        self._model = self._asked = model
        self._stream = stream
        self._started_at = clock.now()
        self._day = local_day(self._started_at)
        self._start_s = clock.monotonic()
        self._first_event_s: float | None = None
        self._attempts: list[Tally] = []
        self._held_micros = 0
        self._stored = False
        self._refused = False
        self._outcome: Outcome = "gone"
        self._error_code: str | None = None
        self._settled = False
        self.faults: list[Fault] = []
        self.queued_ms = 0.0
        self.usage = UsageReport()
        self.booked: LedgerRow | None = None
        self.cost_micros: int | None = None

    def step(self, model: Model) -> None:
        """Attempts from here on are a recipe's step, taken by this model and paid by its tariff."""
        self._asked = model

    async def hold(self, route: Route, request: ChatRequest, *, dispatched: bool) -> None:
        """Sets aside what an attempt may cost at most, before its backend is asked; durable when it returns.

        Args:
            request: as the backend will get it.
            dispatched: the backend is asked right after, and may bill us from then on; else `dispatch` says when.

        Raises:
            QuotaExceeded: the balance does not carry it.
            PermissionDenied: the key has a budget, and nobody knows what the model costs.
            RecordsUnavailable: it could not be written.
        """
        if self._asked.tariff is None and self._caller.budgeted:
            raise _unpriced(self._asked)
        if not self._stored:
            self._day = local_day(self._clock.now())
        tally = self._tally(route, request, dispatched=dispatched)
        spent_micros = sum(row.cost_micros for row in self._rows(tally.start_s, open_=True))
        wanted_micros = max(0, spent_micros + tally.most_micros() - self._held_micros)
        self._attempts.append(tally)
        self._held_micros += wanted_micros
        before, self._stored = self._stored, True  # whoever leaves meanwhile leaves a row
        try:
            refusal = await self._ledger.hold(HoldOrder(self.standing(), wanted_micros))
        except RecordsUnavailable as error:
            tally.dispatched = False
            if not error.unsure:
                self._take_back(wanted_micros, stored=before)
            raise
        except asyncio.CancelledError:
            tally.dispatched = False  # the caller left before anybody was asked
            raise
        if refusal is not None:
            self._take_back(wanted_micros, stored=before)
            raise _exhausted(refusal, tally.most_micros())

    def _tally(self, route: Route, request: ChatRequest, *, dispatched: bool) -> Tally:
        prompt = Prompt.of(request)
        prompt_tokens = prompt.tokens(self._asked.image_tokens)
        return Tally(
            model=self._asked,
            route=route,
            prompt_tokens=prompt_tokens,
            image_count=len(prompt.pictures),
            longest_output_tokens=longest_output_tokens(request.max_output_tokens, self._asked, route, prompt_tokens),
            streamed=self._stream,
            start_s=self._clock.monotonic(),
            dispatched=dispatched,
        )

    def _take_back(self, micros: int, *, stored: bool) -> None:
        """The attempt that no money was set aside for did not take place; where it was the first, nothing is booked."""
        self._attempts.pop()
        self._held_micros -= micros
        self._stored = stored
        self._refused = not stored

    async def dispatch(self) -> None:
        """The backend of the running attempt, which had to wait for its turn, is asked now.

        Raises:
            RecordsUnavailable: it could not be written; do not ask the backend.
        """
        self._attempts[-1].dispatched = True
        try:
            await self._ledger.note([self.standing()])
        except (RecordsUnavailable, asyncio.CancelledError):
            self._attempts[-1].dispatched = False
            raise

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
        if isinstance(error, BackendError) and self._attempts and self._attempts[-1].end_s is None:
            fault = Fault(len(self._attempts), error.backend, type(error).__name__, error.backend_code, error.detail)
            self.faults.append(fault)
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

    @property
    def model_id(self) -> str:
        """Of the catalogue, whichever alias the caller used."""
        return self._model.id

    @property
    def finished(self) -> bool:
        """Whether the answer is whole."""
        return self._outcome == "finished"

    def refused(self, error: RequestError) -> None:
        """The caller was refused, whatever it was for; remembered where nothing was booked."""
        if self.booked is None:
            self._refused, self._error_code = True, error.code

    @property
    def tokens(self) -> int:
        """What it took so far, of input and output together; once it is settled, what was booked."""
        if self._settled:
            return self.usage.input_tokens + self.usage.output_tokens
        rows = self._rows(self._clock.monotonic(), open_=True)
        return sum(row.input_tokens + row.output_tokens for row in rows)

    @property
    def attempt_tokens(self) -> int:
        """The same of the attempt that runs."""
        usage = self._attempts[-1].usage() if self._attempts else None
        return usage.input_tokens + usage.output_tokens if usage else 0

    def detail(self, notices: Sequence[str]) -> Detail | None:
        """What is worth keeping of it beside the ledger; `None` where all went well."""
        if not (notices or self.faults or self._refused):
            return None
        return Detail(
            self.request_id,
            self._started_at,
            self._caller.key_id,
            self._model.id,
            "refused" if self._refused else self._outcome,
            self._error_code,
            tuple(notices),
            tuple(self.faults),
        )

    @property
    def is_stored(self) -> bool:
        """Whether a row of it is open in the ledger."""
        return self._stored and not self._settled

    def standing(self) -> LedgerRow:
        """The row as it would be booked if we died now, its lease pushed on."""
        state: RowState = "dispatched" if any(attempt.dispatched for attempt in self._attempts) else "held"
        return self._row(state, "running", lease_until=self._clock.now() + LEASE_S)

    async def settle(self) -> None:
        """Books the request, once; returns when the row is durable. One that no money was set aside for, for want of
        it, leaves none."""
        if self._settled:
            return
        self._settled = True
        self._books.closed(self)
        if self._refused and not self._stored:
            return
        paid = any(attempt.is_paid for attempt in self._attempts)
        row = self._row("settled" if paid else "released", self._outcome)
        self.usage = usage_of(row.attempts)
        self.booked = row  # though the caller may leave while it is written
        self.booked = row = await self._ledger.settle(row)
        self.cost_micros = None if is_unpriced(row) else row.cost_micros

    def _row(self, state: RowState, outcome: Outcome, *, lease_until: float | None = None) -> LedgerRow:
        now_s, first_event_s = self._clock.monotonic(), self._first_event_s
        open_ = outcome == "running"
        return book(
            request_id=self.request_id,
            started_at=self._started_at,
            key_id=self._caller.key_id,
            model=self._model.id,
            stream=self._stream,
            attempts=self._rows(now_s, open_=open_),
            tariff=self._model.tariff,
            first_event_ms=None if first_event_s is None else (first_event_s - self._start_s) * 1000,
            total_ms=(now_s - self._start_s) * 1000,
            outcome=outcome,
            state=state,
            error_code=self._error_code,
            hold_micros=self._held_micros if open_ else 0,
            day=self._day,
            lease_until=lease_until,
            queued_ms=self.queued_ms,
        )

    def _rows(self, now_s: float, *, open_: bool) -> list[AttemptRow]:
        return [attempt.row(number, now_s, open_=open_) for number, attempt in enumerate(self._attempts, 1)]

    async def __aenter__(self) -> Meter:
        self._books.opened(self)
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


def _exhausted(refusal: HoldRefusal, wanted_micros: int) -> QuotaExceeded:
    words = {"wanted": format_yuan(wanted_micros), "left": format_yuan(max(0, refusal.left_micros))}
    english, chinese = (text.format(**words) for text in _EXHAUSTED[refusal.span])
    return QuotaExceeded(english, chinese=chinese)


def nothing_left() -> QuotaExceeded:
    """What a key is told that has nothing left, before anything is looked at."""
    return QuotaExceeded(
        "This key has nothing left to spend. Ask the operator for a top-up, or wait for its next day or month.",
        chinese="此密钥已无可用余额。请联系管理员充值，或等待下一个预算周期。",
    )


def _unpriced(model: Model) -> PermissionDenied:
    return PermissionDenied(
        f"The model `{shown(model.id)}` has no tariff here, and this key has a budget: nobody could say what to take "
        "from it. Ask the operator for a tariff in models.toml.",
        chinese=f"模型 `{shown(model.id)}` 尚未设置价格，而此密钥有预算限制，无法计费。请联系管理员在 models.toml 中"
        "设置价格。",
        param="model",
        code="model_without_tariff",
    )
