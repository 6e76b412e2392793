"""Limits: what passes in any minute, what runs at once, and whose turn is next. Interfaces and pure rules.

A *window* bounds what passes in any sixty seconds, a *slot* is a place among those that run at once. A caller's limits
refuse: too much is told when to come again. An upstream's limits queue: whoever asks takes a *turn*, at once or later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

from app.core.limits import Limits

SPAN_S = 60.0
"""What a minute is, but for tests."""
LEASE_S = 15.0
"""So long a slot is held unheard of; then it was the slot of a process that died, and is free."""
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """A bound on what passes in any minute, and what one request adds.

    Args:
        name: among its owner's.
        weight: 1 of requests, or so many tokens. One over the limit counts as the limit: it passes an empty window.
        of_tokens: whether its weights are estimates, put right when the request has ended.
    """

    name: str
    limit: int
    weight: int = 1
    of_tokens: bool = False

    @property
    def taken(self) -> int:
        """What the request adds to it."""
        return counted(self.weight, self.limit)


@dataclass(frozen=True, slots=True)
class Slots:
    """A bound on what runs at once; a request takes one.

    Args:
        name: among its owner's.
    """

    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request needs room in.

    Args:
        owner: whose windows and slots these are; a key's id.
    """

    owner: str
    windows: tuple[Window, ...] = ()
    slots: tuple[Slots, ...] = ()

    def shared_by(self, nodes: int) -> Demand:
        """The demand on one node's share of the limits."""
        windows = tuple(replace(window, limit=share(window.limit, nodes)) for window in self.windows)
        slots = tuple(replace(slot, limit=share(slot.limit, nodes)) for slot in self.slots)
        return Demand(self.owner, windows, slots)


@dataclass(frozen=True, slots=True)
class Standing:
    """How full a window is.

    Args:
        reset_s: until it is empty, if nothing more comes.
    """

    limit: int
    remaining: int
    reset_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that got all it needed; whoever got it gives it to `Windows.leave` once.

    Args:
        demand: with the limits that were applied.
        lease: id of its slots.
        bucket: of the windows, where its weights stand.
        alone: this process kept the limits by itself, for its share, as the store they are shared in was away.
        standings: of the demand's windows, in their order, with this request counted in.
    """

    demand: Demand
    lease: str
    bucket: int
    alone: bool
    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that did not; nothing of it is counted.

    Args:
        by: what has no room for the longest, with the limit that was applied.
        retry_after_s: when there will be room, from 1 to 60.
    """

    by: Window | Slots
    retry_after_s: float
    alone: bool
    standings: tuple[Standing, ...]


class Windows(Protocol):
    """Windows and slots of callers."""

    async def enter(self, demand: Demand) -> Admitted | Refused:
        """Takes all that a request needs, or nothing."""
        ...

    def leave(self, admitted: Admitted, used: int | None = None) -> None:
        """Frees the slots of a request that ended; returns at once, and is seen by whatever is asked next.

        Args:
            used: what it really took of windows of tokens, which is put right; `None`: nobody knows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """A backend or model whose limits are queued for, as `backend:spark`."""

    name: str
    limits: Limits


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who wants through.

    Args:
        key_id: turns go round among keys.
        tokens: what the request may take, of input and output together.
    """

    key_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Leave to ask an upstream; whoever got it gives it to `Turns.leave` or `Turns.give_back`, once.

    Args:
        scope: with the limits that were applied.
        tokens: as counted in its window.
        bucket: of the windows, where it is counted.
        since_s: when it was given, on the clock of the store.
        alone: as of `Admitted`.
    """

    id: str
    scope: Scope
    tokens: int
    bucket: int
    since_s: float
    alone: bool


@dataclass(frozen=True, slots=True)
class NoTurn:
    """The turn would come too late, or too many wait.

    Args:
        retry_after_s: when it would have come, from 1 to 60.
    """

    retry_after_s: float


class Turns(Protocol):
    """Turns at upstreams."""

    async def try_enter(self, scope: Scope, ticket: Ticket) -> Turn | None:
        """A turn, if there is room and nobody waits for it."""
        ...

    async def wait(self, scope: Scope, ticket: Ticket, within_s: float) -> Turn | NoTurn:
        """A turn as soon as it comes; refused at once if it will not come in time, and at the latest then."""
        ...

    def leave(self, turn: Turn, used_tokens: int | None = None) -> None:
        """The upstream has answered; returns at once.

        Args:
            used_tokens: what it took; `None`: nobody knows.
        """
        ...

    def give_back(self, turn: Turn) -> None:
        """The upstream was not asked after all: nothing is counted; returns at once."""
        ...


def counted(weight: int, limit: int) -> int:
    """What of a weight counts in a window: at most its limit, at least 1, for nothing passes a limit of 0."""
    return max(1, min(weight, limit))


def share(limit: int, nodes: int) -> int:
    """One node's part of a limit: all parts together are no more than it, unless there are more nodes than that."""
    return min(limit, max(1, limit // max(1, nodes)))


def share_of(limits: Limits, nodes: int) -> Limits:
    """One node's part of each limit."""
    bounds = (None if bound is None else share(bound, nodes) for bound in (limits.rpm, limits.tpm, limits.concurrency))
    return Limits(*bounds)


def retry_after_s(wait_ms: float) -> float:
    """A wait as callers are told of it: whole seconds, from 1 to 60."""
    return min(max(float(ceil(wait_ms / 1000)), _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
