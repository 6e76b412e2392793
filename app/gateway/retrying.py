"""When to ask again, whom, and after how long: as long as nothing was sent to the caller.

A fault that may pass is met by one more attempt at the same rank, after a short wait with jitter or as long as the
backend asked; after that by the next route of the model. What will not pass is never tried again: a refusal of the
request, of its content, of our credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.config.catalog import Route
from app.core.errors import BackendBusy, BackendError, BackendTimeout, BackendUsedUp, NoRoom, UnsupportedFeature
from app.gateway.health import Health
from app.observe.metrics import Reading

WAIT_INITIAL_S, WAIT_MAX_S, WAIT_JITTER_S = 0.1, 1.0, 0.2
"""The wait before another attempt at the same place; doubled for each."""

_LONGEST_ASKED_WAIT_S = 5.0
_ATTEMPTS_PER_RANK = 2


class RetryBudget:
    """Bounds attempts that repeat others, so that many callers together do not press on a backend that is down.

    Args:
        share: of the requests under way.
        least: so many at once are always allowed.
    """

    def __init__(self, *, share: float = 0.2, least: int = 10) -> None:
        self._share = share
        self._least = least
        self._requests = 0
        self._retries = 0
        self._granted = 0
        self._refused = 0

    @contextmanager
    def request(self) -> Iterator[Callable[[], bool]]:
        """A request under way. What it gives asks for one more attempt; those granted count until the request ends."""
        self._requests += 1
        granted = 0

        def grant() -> bool:
            nonlocal granted
            if self._retries >= max(self._least, self._share * self._requests):
                self._refused += 1
                return False
            self._retries += 1
            self._granted += 1
            granted += 1
            return True

        try:
            yield grant
        finally:
            self._requests -= 1
            self._retries -= granted

    def readings(self) -> Iterator[Reading]:
        """What was asked for, for whoever looks after the gateway."""
        yield Reading("tuwen_retries_total", "Attempts that repeated another.", self._granted)
        yield Reading("tuwen_retries_refused_total", "Attempts not repeated, as too many were.", self._refused)


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How the attempts of all requests are governed.

    Args:
        random: a number from 0 to below 1.
        attempts: the most of one request, at all its routes together.
    """

    health: Health
    budget: RetryBudget
    random: Callable[[], float]
    attempts: int = 4


class Itinerary:
    """The way of one request from route to route.

    Args:
        routes: those that can serve it, at least one.
        granted: asks the budget for one more attempt at the same place.
        left_s: how long the request may still take.

    Attributes:
        route: the one to be tried now.
        number: of the attempt, from 1.
    """

    def __init__(
        self, routes: Sequence[Route], rules: RetryRules, granted: Callable[[], bool], left_s: Callable[[], float]
    ) -> None:
        self._left = list(routes)
        self._rules = rules
        self._granted = granted
        self._left_s = left_s
        self._at_rank = 1
        self.number = 1
        self.route = rules.health.choice(self._left)

    def after(self, fault: BaseException) -> bool | float:
        """Moves on after a fault.

        Returns:
            How long to wait before `route` is tried, in seconds; `True`: a short while; `False`: it is not worth it.
        """
        may_pass = isinstance(fault, BackendError) and fault.retryable
        if self.number >= self._rules.attempts or not (may_pass or isinstance(fault, UnsupportedFeature)):
            return False
        wait = self._again(fault)
        if wait is False:
            wait = self._elsewhere()
        self.number += 0 if wait is False else 1
        return wait

    def _again(self, fault: BaseException) -> bool | float:
        """The same rank once more: an equal route that is open, else the same."""
        ranks_left = len({route.rank for route in self._left})
        if self._at_rank >= _ATTEMPTS_PER_RANK or self._rules.attempts - self.number < ranks_left:
            return False
        equals = [route for route in self._left if route.rank == self.route.rank and route is not self.route]
        open_ = [route for route in equals if not self._rules.health.is_shut(route)]
        wait = 0.0 if open_ else self._wait(fault, others=ranks_left > 1)
        if wait is False or not self._granted():
            return False
        self._at_rank += 1
        if open_:
            self._left.remove(self.route)
            self.route = self._rules.health.choice(open_)
        return wait

    def _wait(self, fault: BaseException, *, others: bool) -> bool | float:
        """How long to wait for the same route.

        Args:
            others: there are routes of other ranks, where nobody need wait.
        """
        hopeless = isinstance(fault, BackendUsedUp | NoRoom | UnsupportedFeature)
        waited_long = isinstance(fault, BackendTimeout) and fault.spent
        if hopeless or waited_long or self._left_s() < 2 * WAIT_MAX_S:
            return False
        asked_s = fault.retry_after_s if isinstance(fault, BackendError) else None
        if others and (isinstance(fault, BackendBusy) or asked_s is not None):
            return False
        if asked_s is None:
            return True
        fits = asked_s <= min(_LONGEST_ASKED_WAIT_S, self._left_s() / 2)
        return asked_s + WAIT_JITTER_S * self._rules.random() if fits else False

    def _elsewhere(self) -> bool | float:
        """The best of the routes not tried yet, at once."""
        self._left.remove(self.route)
        if not self._left:
            return False
        before, self.route = self.route, self._rules.health.choice(self._left)
        if self.route.rank != before.rank:
            self._at_rank = 1
        return 0.0
