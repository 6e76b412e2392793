"""Windows and slots shared by all nodes, in Redis."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from typing_extensions import override

from app.accounts.limits import (
    LEASE_S,
    SPAN_S,
    Admitted,
    Demand,
    Refused,
    Slots,
    Standing,
    Window,
    Windows,
    retry_after_s,
)
from app.core.clock import Clock
from app.store.memory import MemoryWindows
from app.store.redis_line import LineDown, RedisLine


class RedisWindows(Windows):
    """Windows and slots in Redis; while that is away, those of this process, with its share of the limits.

    Args:
        nodes: how many share the limits.
        span_s: what a minute is.
        lease_s: how long a slot is held that `renew` does not ask for again.
    """

    def __init__(
        self,
        line: RedisLine,
        clock: Clock,
        *,
        nodes: Callable[[], int],
        span_s: float = SPAN_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self._line = line
        self._clock = clock
        self._nodes = nodes
        self._span_ms = round(span_s * 1000)
        self._lease_ms = round(lease_s * 1000)
        self._local = MemoryWindows(clock, span_s=span_s, alone=True)
        self._held: dict[str, Admitted] = {}

    @override
    async def enter(self, demand: Demand) -> Admitted | Refused:
        lease = self._clock.nonce()
        try:
            answer = await self._line.ask("windows_enter", _keys(demand), self._entering(demand, lease))
        except LineDown:
            outcome = self._local.enter_now(demand.shared_by(self._nodes()))
        except asyncio.CancelledError:
            # where its weights were counted is not known: they stay
            self._leave_there(Admitted(demand, lease, 0, alone=False, standings=()), used=None)
            raise
        else:
            outcome = _outcome(demand, lease, answer)
            if isinstance(outcome, Admitted):
                self._local.adopt(outcome)
        if isinstance(outcome, Admitted) and demand.slots:
            self._held[outcome.lease] = outcome
        return outcome

    @override
    def leave(self, admitted: Admitted, used: int | None = None) -> None:
        self._held.pop(admitted.lease, None)
        if admitted.alone:
            self._local.leave(admitted, used)
        else:
            self._local.leave_slots(admitted)
        self._leave_there(admitted, used)

    def renew(self) -> None:
        """Asks for all slots of this process anew."""
        leases = defaultdict(list)
        for admitted in self._held.values():
            for slots in admitted.demand.slots:
                leases[_key(admitted.demand.owner, slots.name)].append(admitted.lease)
        for key, ids in leases.items():
            self._line.tell("renew", [key], [self._lease_ms, *ids])

    def _entering(self, demand: Demand, lease: str) -> list[str | int]:
        words: list[str | int] = [self._span_ms, self._lease_ms, lease, len(demand.windows)]
        for window in demand.windows:
            words += (window.limit, window.taken)
        words += [slots.limit for slots in demand.slots]
        return words

    def _leave_there(self, admitted: Admitted, used: int | None) -> None:
        """What was admitted here alone is not counted there, but its slots were renewed there since."""
        demand = admitted.demand
        known = used is not None and not admitted.alone
        more = [(used or 0) - window.taken if known and window.of_tokens else 0 for window in demand.windows]
        if demand.slots or any(more):
            args: list[str | int] = [self._span_ms, admitted.lease, admitted.bucket, len(more), *more]
            self._line.tell("windows_leave", _keys(demand), args)


def _outcome(demand: Demand, lease: str, answer: list[Any]) -> Admitted | Refused:
    lacking, wait_ms, bucket, *fill = answer
    standings = tuple(
        Standing(window.limit, max(0, window.limit - total), reset_ms / 1000)
        for window, total, reset_ms in zip(demand.windows, fill[::2], fill[1::2], strict=True)
    )
    if not lacking:
        return Admitted(demand, lease, bucket, alone=False, standings=standings)
    bounds: tuple[Window | Slots, ...] = (*demand.windows, *demand.slots)
    return Refused(bounds[lacking - 1], retry_after_s(wait_ms), alone=False, standings=standings)


def _keys(demand: Demand) -> list[str]:
    names = [*(window.name for window in demand.windows), *(slots.name for slots in demand.slots)]
    return [_key(demand.owner, name) for name in names]


def _key(owner: str, name: str) -> str:
    """All of one owner's hash alike, so that one script may touch them in a cluster too."""
    return f"tuwen:{{{owner}}}:{name}"
