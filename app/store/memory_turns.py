"""Turns at upstreams, given by this process alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from typing_extensions import override

from app.accounts.limits import SPAN_S, NoTurn, Scope, Ticket, Turn, Turns, retry_after_s
from app.accounts.turnstile import TooLate, Turnstile
from app.core.clock import Clock

_SCOPES_UNSWEPT = 1000


@dataclass(slots=True)
class _Waiter:
    """One in a queue.

    Args:
        woken: its turn came, or it was displaced.
        bucket: where its turn is counted; `None`: it has none.
    """

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    bucket: int | None = None


@dataclass(slots=True)
class _Gate:
    """A scope's turnstile and those in its queue, by ticket.

    Args:
        alarm: rings when a window opens for the first of them.
    """

    turnstile: Turnstile
    waiters: dict[str, _Waiter] = field(default_factory=dict)
    alarm: asyncio.TimerHandle | None = None


class MemoryTurns(Turns):
    """Turns given by this process.

    Args:
        length: how many may wait in each scope.
        span_s: what a minute is.
        alone: this process stands in for a store shared with others.
    """

    def __init__(self, clock: Clock, *, length: int, span_s: float = SPAN_S, alone: bool = False) -> None:
        self._clock = clock
        self._length = length
        self._span_ms = round(span_s * 1000)
        self._alone = alone
        self._gates: dict[str, _Gate] = {}
        self._sweep_at = _SCOPES_UNSWEPT

    @override
    async def try_enter(self, scope: Scope, ticket: Ticket) -> Turn | None:
        gate = self._limited(scope)
        ticket_id = self._clock.nonce()
        bucket = gate.turnstile.enter(ticket_id, ticket.tokens, self._now_ms())
        return None if bucket is None else self._turn(ticket_id, gate, scope, ticket, bucket)

    @override
    async def wait(self, scope: Scope, ticket: Ticket, within_s: float) -> Turn | NoTurn:
        gate = self._limited(scope)
        ticket_id = self._clock.nonce()
        outcome = gate.turnstile.join(ticket_id, ticket.key_id, ticket.tokens, within_s * 1000, self._now_ms())
        if isinstance(outcome, TooLate):
            return NoTurn(retry_after_s(outcome.wait_ms))
        if outcome.displaced is not None:
            gate.waiters[outcome.displaced].woken.set()
        waiter = gate.waiters[ticket_id] = _Waiter()
        self._let_in(gate)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await waiter.woken.wait()
        except asyncio.CancelledError:
            if waiter.bucket is not None:  # its turn came in the same moment
                self._undo(gate, ticket_id, waiter.bucket, gate.turnstile.tokens_counted(ticket.tokens))
            raise
        finally:
            del gate.waiters[ticket_id]
            wait_ms = gate.turnstile.quit(ticket_id, self._now_ms())
            self._let_in(gate)
        if waiter.bucket is None:
            return NoTurn(retry_after_s(wait_ms))
        return self._turn(ticket_id, gate, scope, ticket, waiter.bucket)

    @override
    def leave(self, turn: Turn, used_tokens: int | None = None) -> None:
        gate = self._gate(turn.scope.name)
        if used_tokens is not None:
            gate.turnstile.correct(turn.bucket, requests=0, tokens=used_tokens - turn.tokens)
        self.forsake(turn)

    @override
    def give_back(self, turn: Turn) -> None:
        self._undo(self._gate(turn.scope.name), turn.id, turn.bucket, turn.tokens)

    def adopt(self, turn: Turn) -> None:
        """Counts the slot of a turn that was given elsewhere, until `forsake`."""
        self._gate(turn.scope.name).turnstile.adopt(turn.id)

    def forsake(self, turn: Turn) -> None:
        """Counts it no more."""
        gate = self._gate(turn.scope.name)
        gate.turnstile.leave(turn.id, (self._clock.monotonic() - turn.since_s) * 1000)
        self._let_in(gate)

    def _undo(self, gate: _Gate, ticket_id: str, bucket: int, tokens: int) -> None:
        gate.turnstile.leave(ticket_id, None)
        gate.turnstile.correct(bucket, requests=-1, tokens=-tokens)
        self._let_in(gate)

    def _let_in(self, gate: _Gate) -> None:
        """Lets in all who can go, and sees to it that the next one is when a window opens."""
        now_ms = self._now_ms()
        for ticket_id, bucket in gate.turnstile.let_in(now_ms):
            gate.waiters[ticket_id].bucket = bucket
            gate.waiters[ticket_id].woken.set()
        if gate.alarm is not None:
            gate.alarm.cancel()
            gate.alarm = None
        opens_in_ms = gate.turnstile.opens_in_ms(now_ms)
        if opens_in_ms is not None:
            gate.alarm = asyncio.get_running_loop().call_later(opens_in_ms / 1000, self._let_in, gate)

    def _limited(self, scope: Scope) -> _Gate:
        gate = self._gate(scope.name)
        gate.turnstile.limits = scope.limits
        return gate

    def _gate(self, name: str) -> _Gate:
        gate = self._gates.get(name)
        if gate is None:
            if len(self._gates) >= self._sweep_at:
                now_ms = self._now_ms()
                self._gates = {name: gate for name, gate in self._gates.items() if not gate.turnstile.is_idle(now_ms)}
                self._sweep_at = max(_SCOPES_UNSWEPT, 2 * len(self._gates))
            gate = self._gates[name] = _Gate(Turnstile(length=self._length, span_ms=self._span_ms))
        return gate

    def _turn(self, ticket_id: str, gate: _Gate, scope: Scope, ticket: Ticket, bucket: int) -> Turn:
        tokens = gate.turnstile.tokens_counted(ticket.tokens)
        return Turn(ticket_id, scope, tokens, bucket, self._clock.monotonic(), self._alone)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)
