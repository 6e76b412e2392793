"""How backends fare: who is ill and left alone for a while, who is busy, whom to ask next.

A breaker per account and remote model. Three faults in a row shut it, or one that will not pass by itself, as refused
credentials; while it is shut others are asked. When its time is over it is half open: one request tries it, and opens
or shuts it again, for twice as long. It never refuses anybody: where all routes are shut, they are asked all the same,
so a model's only route is never shut.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from app.config.catalog import Route
from app.core.clock import Clock
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
    BackendUsedUp,
    NoRoom,
)
from app.observe.metrics import Reading

FAULTS_TO_SHUT = 3
SHUT_S = 5.0
LONGEST_SHUT_S = 60.0
_BUSY_S = 1.0
_BREAKERS_MAX = 10_000

_ILL = (BackendUnavailable, BackendTimeout, BackendProtocolError, BackendMisconfigured, BackendUsedUp)
_LASTING = (BackendMisconfigured, BackendUsedUp)
"""These do not pass by themselves: the first shuts the route."""


@dataclass(slots=True)
class _Breaker:
    """What is known of one account and remote model that is not well."""

    faults: int = 0
    shut_until_s: float = 0.0
    shut_s: float = 0.0
    tried: bool = False
    """Half open, and somebody tries it now."""


class Trial:
    """One attempt at a route. A context: how it is left says how the route fares."""

    __slots__ = ("_health", "_route", "_well")

    def __init__(self, health: Health, route: Route) -> None:
        self._health = health
        self._route = route
        self._well = False

    def answered(self) -> None:
        """The backend speaks: that alone says that it is well, however long the answer takes."""
        if not self._well:
            self._well = True
            self._health.well(self._route)

    def __enter__(self) -> Trial:
        self._health.begun(self._route)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._health.ended(self._route, error)


class Health:
    """Of all routes, as this process knows it.

    Args:
        random: a number from 0 to below 1.
    """

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._now_s = clock.monotonic
        self._random = random
        self._breakers: OrderedDict[tuple[str, str], _Breaker] = OrderedDict()
        self._in_flight: Counter[str] = Counter()
        self._faults: Counter[tuple[str, str]] = Counter()

    def trial(self, route: Route) -> Trial:
        """An attempt at it, to be entered."""
        return Trial(self, route)

    def is_shut(self, route: Route) -> bool:
        """Whether it is better left alone now."""
        breaker = self._breakers.get(_key(route))
        if breaker is None or not breaker.shut_until_s:
            return False
        return breaker.tried or self._now_s() < breaker.shut_until_s

    def choice(self, routes: Sequence[Route]) -> Route:
        """Whom to ask of these: the open before the shut, then the lower rank; of equals the least busy for its weight,
        and where these are as busy, by weighted chance."""
        if len(routes) == 1:
            return routes[0]
        open_ = [route for route in routes if not self.is_shut(route)] or routes
        first = min(route.rank for route in open_)
        equals = [route for route in open_ if route.rank == first]
        if len(equals) == 1:
            return equals[0]
        load = [self._in_flight[route.backend.name] / route.weight for route in equals]
        idlest = [route for route, busy in zip(equals, load, strict=True) if busy == min(load)]
        point = self._random() * sum(route.weight for route in idlest)
        for route in idlest:
            point -= route.weight
            if point < 0:
                return route
        return idlest[-1]

    def begun(self, route: Route) -> None:
        """An attempt at it begins."""
        self._in_flight[route.backend.name] += 1
        breaker = self._breakers.get(_key(route))
        if breaker is not None and breaker.shut_until_s and not self.is_shut(route):
            breaker.tried = True

    def well(self, route: Route) -> None:
        """It answers."""
        self._breakers.pop(_key(route), None)

    def ended(self, route: Route, error: BaseException | None) -> None:
        """An attempt at it has ended. What is no error of a backend, as that of a caller who left, tells nothing."""
        name = route.backend.name
        self._in_flight[name] -= 1
        if not self._in_flight[name]:
            del self._in_flight[name]
        if (breaker := self._breakers.get(_key(route))) is not None:
            breaker.tried = False
        if not isinstance(error, BackendError) or isinstance(error, NoRoom):
            return
        self._faults[name, type(error).__name__] += 1
        if isinstance(error, BackendBusy):
            self._shut(route, error.retry_after_s or _BUSY_S)
        elif isinstance(error, _ILL):
            self._ill(route, lasting=isinstance(error, _LASTING))
        else:
            self.well(route)  # it has read the request and refused it

    def _ill(self, route: Route, *, lasting: bool) -> None:
        breaker = self._breaker(route)
        breaker.faults += 1
        if lasting or breaker.faults >= FAULTS_TO_SHUT:
            breaker.shut_s = min(breaker.shut_s * 2, LONGEST_SHUT_S) if breaker.shut_s else SHUT_S
            breaker.shut_until_s = self._now_s() + breaker.shut_s

    def _shut(self, route: Route, span_s: float) -> None:
        """It asked to be left alone; that is no illness."""
        breaker = self._breaker(route)
        breaker.shut_until_s = max(breaker.shut_until_s, self._now_s() + min(span_s, LONGEST_SHUT_S))

    def _breaker(self, route: Route) -> _Breaker:
        """Callers make remote models up, where a wildcard takes them: only so many are remembered."""
        breaker = self._breakers.setdefault(_key(route), _Breaker())
        if len(self._breakers) > _BREAKERS_MAX:
            self._breakers.popitem(last=False)
        return breaker

    def readings(self) -> Iterator[Reading]:
        """What is known, for whoever looks after the gateway."""
        for name, count in self._in_flight.items():
            yield Reading("tuwen_backend_in_flight", "Attempts under way.", count, (("backend", name),))
        for (name, error), count in self._faults.items():
            of_fault = (("backend", name), ("error", error))
            yield Reading("tuwen_backend_faults_total", "Attempts that failed.", count, of_fault)
        shut = Counter(name for (name, _), breaker in self._breakers.items() if self._now_s() < breaker.shut_until_s)
        for name, count in shut.items():
            yield Reading("tuwen_backend_shut", "Remote models that are left alone now.", count, (("backend", name),))


def _key(route: Route) -> tuple[str, str]:
    return route.backend.name, route.model
