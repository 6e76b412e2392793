"""One request, start to end: the steps, in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from app.accounts.interfaces import Caller
from app.config.catalog import Model
from app.config.reload import CatalogHolder
from app.core.clock import Clock
from app.core.errors import GatewayError, RequestError
from app.core.events import Event, UsageReport
from app.core.money import FREE
from app.core.types import Call, ChatRequest
from app.gateway.accounting import Meter, nothing_left
from app.gateway.admission import Admission, Entry
from app.gateway.attempt import Attempts, Clocks
from app.gateway.books import Bookkeeping
from app.gateway.compose import Composed
from app.gateway.content_log import Witness, witness_of
from app.gateway.draining import Draining, RunningAnswer
from app.gateway.estimates import unfitted_tokens
from app.gateway.fitting import Fitting
from app.gateway.queueing import UpstreamTurns
from app.gateway.retrying import RetryRules
from app.gateway.routing import candidates, find_model
from app.transports.base import Transport


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer under way.

    Args:
        batches: its events; each batch is what one read of the backend held, the last one ends with the terminal. When
            the terminal is handed on, the request is already booked.
    """

    batches: AsyncIterator[Sequence[Event]]
    _notices: Sequence[str]
    _meter: Meter
    _entry: Entry

    @property
    def notices(self) -> list[str]:
        """What was clamped or left out, complete once the first batch is there; and how limits are kept, where that is
        not as usual."""
        return [*self._notices, self._entry.notice] if self._entry.notice else list(self._notices)

    @property
    def rates(self) -> Mapping[str, str]:
        """How full the caller's limits are, as headers."""
        return self._entry.rates

    @property
    def usage(self) -> UsageReport:
        """What was booked; meaningful once the terminal is there."""
        return self._meter.usage

    @property
    def finished(self) -> bool:
        """Whether the answer is whole; meaningful once the terminal is there."""
        return self._meter.finished

    @property
    def queued_ms(self) -> int:
        """How long it waited for backends that had no room, so far."""
        return round(self._meter.queued_ms)

    @property
    def cost_micros(self) -> int | None:
        """What it cost, in micro-yuan, of all steps; `None` where a tariff is not known, and until the terminal."""
        return self._meter.cost_micros


class Gateway:
    """Answers requests."""

    def __init__(
        self,
        *,
        catalogs: CatalogHolder,
        admission: Admission,
        queues: UpstreamTurns,
        fitting: Fitting,
        transports: Mapping[type[Call], Transport],
        bookkeeping: Bookkeeping,
        retries: RetryRules,
        clock: Clock,
        clocks: Clocks,
        draining: Draining,
    ) -> None:
        self._catalogs = catalogs
        self._admission = admission
        self._queues = queues
        self._fitting = fitting
        self._transports = transports
        self._bookkeeping = bookkeeping
        self._retries = retries
        self._clock = clock
        self._clocks = clocks
        self._draining = draining

    @asynccontextmanager
    async def open(self, request: ChatRequest, caller: Caller, request_id: str) -> AsyncIterator[Exchange]:
        """Opens the answer to a request; leaving the block ends it, closes what it opened, and books it.

        Raises:
            RequestError: the key may not ask this, or not now; nothing here can serve it; no backend was asked.
            GatewayStopping: the process ends.
        """
        model = find_model(self._catalogs.current, request.model)
        kept = self._bookkeeping
        meter = Meter(
            kept.ledger,
            kept.books,
            self._clock,
            request_id=request_id,
            caller=caller,
            model=model,
            stream=request.stream,
        )
        notices: list[str] = []
        witness = witness_of(caller, request, request_id)
        try:
            async with self._draining.answer() as running, self._admitted(caller, model, request) as entry, meter:
                entry.used(0)  # until somebody is asked
                with self._retries.budget.request() as granted:
                    answering = self._answering(model, request, caller, meter=meter, granted=granted, witness=witness)
                    notices = answering.notices
                    del request  # whoever answers lets go of its pictures once the answer has begun
                    heard = witness.listening(_metered(answering, meter, entry, running))
                    async with aclosing(heard) as batches:
                        yield Exchange(batches, notices, meter, entry)
        except RequestError as error:
            meter.refused(error)
            raise
        finally:
            self._tell(meter, notices)
            witness.tell("refused" if meter.booked is None else meter.booked.outcome)

    def _admitted(self, caller: Caller, model: Model, request: ChatRequest) -> Entry:
        """The request's place within its key's limits.

        Raises:
            PermissionDenied: the key is not for this model.
            QuotaExceeded: the key has nothing left.
        """
        entry = self._admission.admitted(caller, model, request.model, partial(unfitted_tokens, request, model))
        if caller.left_micros is not None and caller.left_micros <= 0 and model.tariff not in {None, FREE}:
            raise nothing_left()
        return entry

    def _answering(
        self,
        model: Model,
        request: ChatRequest,
        caller: Caller,
        *,
        meter: Meter,
        granted: Callable[[], bool],
        witness: Witness,
    ) -> Attempts | Composed:
        asking = partial(
            Attempts,
            meter=meter,
            passage=partial(self._queues.passage, key_id=caller.key_id),
            rules=self._retries,
            granted=granted,
            fitting=self._fitting,
            transports=self._transports,
            clock=self._clock,
            witness=witness,
        )
        if model.recipe is not None:
            return Composed(model.recipe, request, asking=asking, meter=meter, clock=self._clock, clocks=self._clocks)
        return asking(model=model, routes=candidates(model, request), request=request, clocks=self._clocks)

    def _tell(self, meter: Meter, notices: Sequence[str]) -> None:
        """What operators see of a request that has ended."""
        row = meter.booked
        if row is None:
            self._bookkeeping.metrics.ended(meter.model_id, "refused")
        else:
            used = {"input_tokens": row.input_tokens, "output_tokens": row.output_tokens}
            self._bookkeeping.metrics.ended(row.model, row.outcome, cost_micros=row.cost_micros, **used)
        if (detail := meter.detail(notices)) is not None:
            self._bookkeeping.details.add(detail)


async def _metered(
    answering: Attempts | Composed, meter: Meter, entry: Entry, running: RunningAnswer
) -> AsyncGenerator[Sequence[Event], None]:
    """Taps what passes, and settles before the end of the answer is handed on."""
    try:
        async with aclosing(answering.batches()) as batches:
            while (batch := await running.next(batches)) is not None:
                if meter.tap(batch):
                    running.ended()
                    await meter.settle()
                    entry.used(meter.tokens)
                    entry.leave()
                yield batch
    except GatewayError as error:
        meter.failed(error)
        raise
    finally:
        entry.used(meter.tokens)
