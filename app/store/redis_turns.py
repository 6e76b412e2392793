"""Turns at upstreams that all nodes share, in Redis: one queue per scope, in which each node asks after its own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from typing_extensions import override

from app.accounts.limits import (
    LEASE_S,
    SPAN_S,
    NoTurn,
    Scope,
    Ticket,
    Turn,
    Turns,
    counted,
    retry_after_s,
    share_of,
)
from app.core.clock import Clock
from app.store.memory_turns import MemoryTurns
from app.store.redis_line import LineDown, RedisLine, Script

POLL_S = 0.025
_CLAIM_MS = 2000
"""So long a ticket stands in the queue that its node does not ask after, and a turn that it does not come for."""

_INSIDE, _TOO_LATE = 1, 3
_STILL_WAITS, _DISPLACED, _UNKNOWN = 0, -1, -2
_NOWHERE = -1


@dataclass(slots=True)
class _Waiter:
    """One of this node's in a queue.

    Args:
        news: something changed.
        answer: a bucket where its turn is there, or what became of it.
    """

    news: asyncio.Event = field(default_factory=asyncio.Event)
    answer: int = _STILL_WAITS


class RedisTurns(Turns):
    """Turns in Redis; while that is away, those of this process, with its share of the limits.

    Args:
        nodes: how many share the limits.
        length: how many may wait in each scope.
        span_s: what a minute is.
        lease_s: how long a slot is held that `renew` does not ask for again.
    """

    def __init__(
        self,
        line: RedisLine,
        clock: Clock,
        *,
        nodes: Callable[[], int],
        length: int,
        span_s: float = SPAN_S,
        lease_s: float = LEASE_S,
    ) -> None:
        self._line = line
        self._clock = clock
        self._nodes = nodes
        self._length = length
        self._span_ms = round(span_s * 1000)
        self._lease_ms = round(lease_s * 1000)
        self._local = MemoryTurns(clock, length=length, span_s=span_s, alone=True)
        self._held: dict[str, Turn] = {}
        self._waiters: dict[Scope, dict[str, _Waiter]] = defaultdict(dict)
        self._asking: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @override
    async def try_enter(self, scope: Scope, ticket: Ticket) -> Turn | None:
        ticket_id = self._clock.nonce()
        try:
            outcome = await self._enter(scope, ticket, ticket_id, -1)
        except LineDown:
            outcome = await self._local.try_enter(self._share(scope), ticket)
        return self._kept(outcome) if isinstance(outcome, Turn) else None

    @override
    async def wait(self, scope: Scope, ticket: Ticket, within_s: float) -> Turn | NoTurn:
        until_s = self._clock.monotonic() + within_s
        while True:
            left_s = max(0.0, until_s - self._clock.monotonic())
            ticket_id = self._clock.nonce()
            try:
                outcome = await self._enter(scope, ticket, ticket_id, round(left_s * 1000))
                if outcome is None:
                    outcome = await self._waited(scope, ticket, ticket_id, left_s)
            except LineDown:
                outcome = await self._local.wait(self._share(scope), ticket, left_s)
            if outcome is not None:
                return outcome if isinstance(outcome, NoTurn) else self._kept(outcome)
            # its place was lost with the server: it queues anew

    @override
    def leave(self, turn: Turn, used_tokens: int | None = None) -> None:
        took_ms = round((self._clock.monotonic() - turn.since_s) * 1000)
        self._end(turn, 0, 0 if used_tokens is None else used_tokens - turn.tokens, took_ms)
        if turn.alone:
            self._local.leave(turn, used_tokens)

    @override
    def give_back(self, turn: Turn) -> None:
        self._end(turn, -1, -turn.tokens, -1)
        if turn.alone:
            self._local.give_back(turn)

    def renew(self) -> None:
        """Asks for all slots of this process anew."""
        scopes = defaultdict(list)
        for turn in self._held.values():
            scopes[turn.scope.name].append(turn.id)
        for name, ids in scopes.items():
            self._line.tell("renew", [_key(name, "inside")], [self._lease_ms, *ids])

    async def aclose(self) -> None:
        """Ends asking after turns."""
        if self._asking is not None:
            self._asking.cancel()
            with suppress(asyncio.CancelledError):
                await self._asking

    def _kept(self, turn: Turn) -> Turn:
        if turn.scope.limits.concurrency is not None:
            self._held[turn.id] = turn
            if not turn.alone:
                self._local.adopt(turn)
        return turn

    def _end(self, turn: Turn, more_requests: int, more_tokens: int, took_ms: int) -> None:
        """What was let in here alone is not counted there, but its slot was renewed there since."""
        bucket = _NOWHERE if turn.alone else turn.bucket
        self._tell_left(turn.scope, turn.id, [bucket, more_requests, more_tokens, took_ms])
        if self._held.pop(turn.id, None) is not None and not turn.alone:
            self._local.forsake(turn)
        self._hurry.set()

    async def _enter(self, scope: Scope, ticket: Ticket, ticket_id: str, within_ms: int) -> Turn | NoTurn | None:
        """`None`: it waits, or would have to."""
        args: list[str | int] = [ticket_id, ticket.key_id, ticket.tokens, within_ms, self._length]
        try:
            answer = await self._ask("turns_enter", scope, args)
        except asyncio.CancelledError:
            self._abandon(scope, ticket, ticket_id)
            raise
        if answer[0] == _INSIDE:
            return self._turn(scope, ticket, ticket_id, answer[1])
        return NoTurn(retry_after_s(answer[1])) if answer[0] == _TOO_LATE else None

    async def _waited(self, scope: Scope, ticket: Ticket, ticket_id: str, within_s: float) -> Turn | NoTurn | None:
        """`None`: its place was lost.

        Raises:
            LineDown: the queue is out of reach.
        """
        waiter = self._waiters[scope][ticket_id] = _Waiter()
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_after_turns())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await waiter.news.wait()
        except asyncio.CancelledError:
            self._abandon(scope, ticket, ticket_id)
            raise
        finally:
            self._forget(scope, ticket_id)
        if waiter.answer == _UNKNOWN:
            return None
        if waiter.answer == _DISPLACED:
            return NoTurn(retry_after_s(0))
        if waiter.answer != _STILL_WAITS:
            return self._turn(scope, ticket, ticket_id, waiter.answer)
        if waiter.news.is_set():
            raise LineDown
        left: list[str | int] = [ticket_id, _NOWHERE, -1, -self._counted(scope, ticket), -1]
        return NoTurn(retry_after_s(await self._ask("turns_leave", scope, left)))

    async def _ask_after_turns(self) -> None:
        """Runs while somebody waits."""
        try:
            while self._waiters:
                self._hurry.clear()
                await asyncio.gather(*(self._look(scope, list(each)) for scope, each in self._waiters.items()))
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._hurry.wait()
        finally:
            self._asking = None

    async def _look(self, scope: Scope, ticket_ids: Sequence[str]) -> None:
        try:
            answers = await self._ask("turns_poll", scope, ticket_ids)
        except LineDown:
            answers = None
        for at, ticket_id in enumerate(ticket_ids):
            waiter = self._waiters.get(scope, {}).get(ticket_id)
            if waiter is not None and (answers is None or answers[at] != _STILL_WAITS):
                waiter.answer = _STILL_WAITS if answers is None else answers[at]
                waiter.news.set()

    def _forget(self, scope: Scope, ticket_id: str) -> None:
        del self._waiters[scope][ticket_id]
        if not self._waiters[scope]:
            del self._waiters[scope]

    def _abandon(self, scope: Scope, ticket: Ticket, ticket_id: str) -> None:
        """Whoever stops waiting leaves the queue, and gives back the turn that came in the same moment. One who was let
        in without waiting gives back the slot only: where it was counted is not known, so it stays counted."""
        self._tell_left(scope, ticket_id, [_NOWHERE, -1, -self._counted(scope, ticket), -1])

    def _tell_left(self, scope: Scope, ticket_id: str, counts: Sequence[int]) -> None:
        self._line.tell("turns_leave", _keys(scope), [*self._terms(scope), ticket_id, *counts])

    async def _ask(self, script: Script, scope: Scope, args: Sequence[str | int]) -> Any:
        return await self._line.ask(script, _keys(scope), [*self._terms(scope), *args])

    def _terms(self, scope: Scope) -> list[int]:
        limits = scope.limits
        bounds = (limits.rpm, limits.tpm, limits.concurrency)
        return [self._span_ms, self._lease_ms, _CLAIM_MS, *(-1 if bound is None else bound for bound in bounds)]

    def _share(self, scope: Scope) -> Scope:
        return replace(scope, limits=share_of(scope.limits, self._nodes()))

    def _turn(self, scope: Scope, ticket: Ticket, ticket_id: str, bucket: int) -> Turn:
        tokens = self._counted(scope, ticket)
        return Turn(ticket_id, scope, tokens, bucket, self._clock.monotonic(), alone=False)

    @staticmethod
    def _counted(scope: Scope, ticket: Ticket) -> int:
        return ticket.tokens if scope.limits.tpm is None else counted(ticket.tokens, scope.limits.tpm)


def _keys(scope: Scope) -> list[str]:
    nouns = ("requests", "tokens", "inside", "queue", "alive", "tickets", "tags", "state")
    return [_key(scope.name, noun) for noun in nouns]


def _key(scope_name: str, noun: str) -> str:
    return f"tuwen:{{{scope_name}}}:{noun}"
