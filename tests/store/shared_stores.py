"""Limits as the contract sees them: those of this process, and those in a Redis server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.accounts.limits import Admitted, Demand, NoTurn, Refused, Scope, Slots, Ticket, Turn, Turns, Window, Windows
from app.core.clock import Clock
from app.core.limits import Limits
from app.store.memory import MemoryWindows
from app.store.memory_turns import MemoryTurns
from app.store.redis_line import RedisLine
from app.store.shared_limits import SharedLimits, shared_limits

SPAN_S = 0.9
QUEUE_LENGTH = 5


@dataclass(frozen=True, slots=True)
class Store:
    """Something that keeps limits; its minute is less than a second."""

    windows: Windows
    turns: Turns


def memory() -> Store:
    clock = Clock()
    return Store(MemoryWindows(clock, span_s=SPAN_S), MemoryTurns(clock, length=QUEUE_LENGTH, span_s=SPAN_S))


@asynccontextmanager
async def node(url: str, *, lease_s: float = 15.0, span_s: float = SPAN_S) -> AsyncIterator[SharedLimits]:
    """One process among those that share limits."""
    async with shared_limits(url, Clock(), queue_length=QUEUE_LENGTH, span_s=span_s, lease_s=lease_s) as limits:
        yield limits


async def crashed(url: str, *, lease_s: float) -> SharedLimits:
    """One that will not be heard of again, nor say goodbye."""
    limits = SharedLimits(RedisLine(url), Clock(), queue_length=QUEUE_LENGTH, span_s=SPAN_S, lease_s=lease_s)
    await limits.look_after()
    return limits


def requests(limit: int, owner: str = "key_a") -> Demand:
    """One request, of so many in a minute."""
    return Demand(owner, (Window("rpm", limit),))


def tokens(limit: int, weight: int) -> Demand:
    return Demand("key_a", (Window("tpm", limit, weight, of_tokens=True),))


def place(limit: int, owner: str = "key_a") -> Demand:
    """One place among so many at once."""
    return Demand(owner, slots=(Slots("slots", limit),))


def admitted(outcome: Admitted | Refused) -> Admitted:
    assert isinstance(outcome, Admitted), outcome
    return outcome


def refused(outcome: Admitted | Refused) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


def given(outcome: Turn | NoTurn | None) -> Turn:
    assert isinstance(outcome, Turn), outcome
    return outcome


def scope(
    name: str = "backend:b", *, rpm: int | None = None, tpm: int | None = None, slots: int | None = None
) -> Scope:
    return Scope(name, Limits(rpm, tpm, slots))


def ticket(key_id: str = "key_a", weight: int = 1) -> Ticket:
    return Ticket(key_id, weight)
