"""A process among those that share limits. Run as `python -m tests.store.limits_worker`; it asks for `key_a`'s room for
so long, as fast as it gets answers, and says when it was admitted: a line per request, on the system's clock."""

from __future__ import annotations

import asyncio
import sys
from time import monotonic

from app.accounts.limits import Admitted, Scope, Ticket, Turn
from app.core.limits import Limits
from tests.store.shared_stores import node, requests


async def enter_windows(url: str, span_s: float, limit: int, for_s: float) -> list[tuple[float, float]]:
    """When each admitted request asked, and when it was told."""
    seen = []
    async with node(url, span_s=span_s) as limits:
        until = monotonic() + for_s
        while (asked := monotonic()) < until:
            if isinstance(await limits.windows.enter(requests(limit)), Admitted):
                seen.append((asked, monotonic()))
            await asyncio.sleep(0.002)
    return seen


async def take_turns(url: str, span_s: float, slots: int, for_s: float) -> list[tuple[float, float]]:
    """When each turn began, and when it ended."""
    seen = []
    async with node(url, span_s=span_s) as limits:
        until = monotonic() + for_s
        scope = Scope("backend:b", Limits(concurrency=slots))

        async def one(number: int) -> None:
            while monotonic() < until:
                turn = await limits.turns.wait(scope, Ticket(f"key_{number}", 1), 20)
                if isinstance(turn, Turn):
                    begun = monotonic()
                    await asyncio.sleep(0.02)
                    seen.append((begun, monotonic()))
                    limits.turns.leave(turn)

        await asyncio.gather(*map(one, range(2)))
    return seen


async def main(task: str, url: str, span_s: float, limit: int, for_s: float) -> None:
    sys.stdin.readline()  # so that all workers start at once
    work = enter_windows if task == "windows" else take_turns
    for begun, ended in await work(url, span_s, limit, for_s):
        sys.stdout.write(f"{begun:.6f} {ended:.6f}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
