"""Limits that several processes keep together in Redis, and each by itself while that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

from app.accounts.limits import LEASE_S, SPAN_S
from app.core.clock import Clock
from app.observe.metrics import Reading
from app.store.redis_line import LineDown, RedisLine
from app.store.redis_turns import RedisTurns
from app.store.redis_windows import RedisWindows

_RETRY_S = 1.0
_NODES = "tuwen:nodes"


class SharedLimits:
    """This process among those that share limits: it makes itself known, and keeps its slots.

    Args:
        lease_s: how long a slot, or this process, is believed in unheard of.

    Attributes:
        nodes: how many processes share the limits, when last asked.
    """

    def __init__(
        self,
        line: RedisLine,
        clock: Clock,
        *,
        queue_length: int,
        span_s: float = SPAN_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self._line = line
        self._id = clock.nonce()
        self._lease_s = lease_s
        self.nodes = 1
        self.windows = RedisWindows(line, clock, nodes=self._count, span_s=span_s, lease_s=lease_s)
        self.turns = RedisTurns(line, clock, nodes=self._count, length=queue_length, span_s=span_s, lease_s=lease_s)

    @property
    def degraded(self) -> bool:
        """Whether limits are kept by this process alone, for its share."""
        return not self._line.is_up

    def readings(self) -> Iterator[Reading]:
        """The same, for whoever looks after the gateway."""
        yield Reading("tuwen_limits_alone", "1 while limits are kept by this process alone.", int(self.degraded))

    async def keep(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(min(_RETRY_S, self._lease_s / 3) if self.degraded else self._lease_s / 3)
            await self.look_after()

    async def look_after(self) -> None:
        """One round: brings the line up if it is down, and says that this process and its slots live."""
        if not await self._line.connect():
            return
        self.windows.renew()
        self.turns.renew()
        with suppress(LineDown):
            self.nodes = await self._line.ask("node", [_NODES], [round(self._lease_s * 1000), self._id])

    async def aclose(self) -> None:
        """Takes this process out of those that share."""
        await self.turns.aclose()
        self._line.tell("node", [_NODES], [0, self._id, "gone"])
        await self._line.aclose()

    def _count(self) -> int:
        return self.nodes


@asynccontextmanager
async def shared_limits(
    url: str,
    clock: Clock,
    *,
    queue_length: int,
    span_s: float = SPAN_S,
    lease_s: float = LEASE_S,
) -> AsyncIterator[SharedLimits]:
    """Limits in the Redis server at an address; they hold whether or not it can be reached.

    Args:
        url: as `redis://:password@host:6379/0`.
        queue_length: how many may wait for each upstream.
    """
    limits = SharedLimits(RedisLine(url), clock, queue_length=queue_length, span_s=span_s, lease_s=lease_s)
    await limits.look_after()
    keeping = asyncio.create_task(limits.keep())
    try:
        yield limits
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await limits.aclose()
