"""Turns at upstreams: what a vendor sold us is queued for, fairly among keys, as long as there is time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from app.accounts.limits import NoTurn, Scope, Ticket, Turn, Turns
from app.config.catalog import Model, Route
from app.core.clock import Clock
from app.core.errors import NoRoom
from app.core.limits import NO_LIMITS
from app.observe.metrics import Reading

_SCOPES_MAX = 1000
_OTHER = "(other)"


@dataclass(slots=True)
class _Figures:
    """What happened in the queue of one scope."""

    waiting: int = 0
    turns: int = 0
    waited_ms: float = 0
    refused: int = 0


class Passage:
    """A request's way to one upstream. An async context: entering it takes the turns that are there; leaving it gives
    all turns back, however it is left.

    Attributes:
        queued_ms: how long it waited.
    """

    def __init__(self, queues: UpstreamTurns, scopes: tuple[Scope, ...], ticket: Ticket, backend: str) -> None:
        self._queues = queues
        self._missing = list(scopes)
        self._ticket = ticket
        self._backend = backend
        self._turns: list[Turn] = []
        self._used: int | None = None
        self._asked = True
        self.queued_ms = 0.0

    @property
    def immediate(self) -> bool:
        """Whether all turns are there: the upstream may be asked."""
        return not self._missing

    async def wait(self, within_s: float) -> None:
        """Waits for the turns that are not there.

        Raises:
            NoRoom: they will not come in time, or too many wait for them.
        """
        begun_s = self._queues.now_s()
        try:
            while self._missing:
                left_s = max(0.0, begun_s + min(within_s, self._queues.longest_s) - self._queues.now_s())
                self._turns.append(await self._queues.turn(self._missing[0], self._ticket, left_s, self._backend))
                del self._missing[0]
        finally:
            self.queued_ms += (self._queues.now_s() - begun_s) * 1000

    def used(self, tokens: int) -> None:
        """What the upstream took, of input and output together. Unsaid, the estimate stands."""
        self._used = tokens

    def unused(self) -> None:
        """The upstream was not asked after all."""
        self._asked = False

    async def __aenter__(self) -> Passage:
        try:
            while self._missing:
                turn = await self._queues.turns.try_enter(self._missing[0], self._ticket)
                if turn is None:
                    break
                self._turns.append(turn)
                del self._missing[0]
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for turn in self._turns:
            if self._asked and not self._missing:
                self._queues.turns.leave(turn, self._used)
            else:
                self._queues.turns.give_back(turn)


class UpstreamTurns:
    """The queues before models and backends.

    Args:
        longest_s: how long a request waits at most.
    """

    def __init__(self, turns: Turns, clock: Clock, *, longest_s: float) -> None:
        self.turns = turns
        self.now_s = clock.monotonic
        self.longest_s = longest_s
        self._figures: dict[str, _Figures] = {}

    def passage(self, route: Route, model: Model, *, key_id: str, tokens: Callable[[], int]) -> Passage:
        """The way of a request to a route of a model, to be entered; it is free where nothing is limited.

        Args:
            tokens: estimates what the request will take, of input and output together; asked where that is limited.
        """
        backend = route.backend
        scopes = []
        if model.limits != NO_LIMITS:
            scopes.append(Scope(f"model:{model.id}", model.limits))
        if backend.limits != NO_LIMITS:
            scopes.append(Scope(f"backend:{backend.name}", backend.limits))
        counts_tokens = any(scope.limits.tpm is not None for scope in scopes)
        return Passage(self, tuple(scopes), Ticket(key_id, tokens() if counts_tokens else 1), backend.name)

    async def turn(self, scope: Scope, ticket: Ticket, within_s: float, backend: str) -> Turn:
        """A turn, waited for.

        Raises:
            NoRoom: it will not come in time, or too many wait for it.
        """
        figures, begun_s = self._figures_of(scope.name), self.now_s()
        figures.waiting += 1
        try:
            outcome = await self.turns.wait(scope, ticket, within_s)
        finally:
            figures.waiting -= 1
            figures.waited_ms += (self.now_s() - begun_s) * 1000
        if isinstance(outcome, NoTurn):
            figures.refused += 1
            raise _busy(scope, outcome, backend)
        figures.turns += 1
        return outcome

    def readings(self) -> Iterator[Reading]:
        """What the queues have seen, for whoever looks after the gateway."""
        for name, figures in self._figures.items():
            of_scope = (("scope", name),)
            yield Reading("tuwen_queue_waiting", "Requests that wait.", figures.waiting, of_scope)
            yield Reading("tuwen_queue_turns_total", "Turns that came after a wait.", figures.turns, of_scope)
            yield Reading("tuwen_queue_waited_ms_total", "How long requests waited.", figures.waited_ms, of_scope)
            yield Reading("tuwen_queue_refused_total", "Requests that were refused.", figures.refused, of_scope)

    def _figures_of(self, name: str) -> _Figures:
        """Callers make models up, where a wildcard takes them: only so many are told apart."""
        if name not in self._figures and len(self._figures) >= _SCOPES_MAX:
            name = _OTHER
        return self._figures.setdefault(name, _Figures())


def _busy(scope: Scope, refusal: NoTurn, backend: str) -> NoRoom:
    wait_s = round(refusal.retry_after_s)
    return NoRoom(
        f"The model has no room for this request in time; ask again in {wait_s} s.",
        chinese=f"该模型暂时无法及时处理此请求，请在 {wait_s} 秒后重试。",
        backend=backend,
        detail=f"no turn at {scope.name}, {scope.limits}",
        retry_after_s=refusal.retry_after_s,
    )
