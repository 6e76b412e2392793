"""Whose turn is next at an upstream. Times are whole milliseconds; the caller reads the clock.

Turns go round among keys, by start-time fair queueing: a ticket's tag is one more than the last of its key, and at
least the tag let in last; the lowest tag goes first. So a key with a hundred tickets delays another key's first by one
turn. Tags matter only while somebody waits: once nobody does, all begin anew.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.accounts.limits import counted
from app.accounts.sliding import NEVER_MS, SlidingWindow
from app.core.limits import NO_LIMITS, Limits

_HABIT = 0.2
"""How much the newest turn says of how long turns take."""


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """Ordered by whose turn comes first."""

    tag: int
    number: int
    id: str = field(compare=False)
    key_id: str = field(compare=False)
    tokens: int = field(compare=False)


@dataclass(frozen=True, slots=True)
class Queued:
    """A ticket that waits.

    Args:
        displaced: the ticket that had to go for it, the last of a full queue.
    """

    displaced: str | None = None


@dataclass(frozen=True, slots=True)
class TooLate:
    """A ticket that does not.

    Args:
        wait_ms: how long its turn would have taken to come.
    """

    wait_ms: float


class Turnstile:
    """One scope: who is inside, who waits, and what passed in the last minute.

    Args:
        length: how many may wait.

    Attributes:
        limits: of the scope; they may change.
    """

    def __init__(self, *, length: int, span_ms: int) -> None:
        self._length = length
        self._requests = SlidingWindow(span_ms)
        self._tokens = SlidingWindow(span_ms)
        self._inside: set[str] = set()
        self._queue: list[_Waiting] = []
        self._last_tags: dict[str, int] = {}
        self._tag_let_in = 0
        self._number = 0
        self._turn_ms: float | None = None
        self.limits: Limits = NO_LIMITS

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def enter(self, ticket_id: str, tokens: int, now_ms: int) -> int | None:
        """Lets a ticket in that need not wait; the bucket it is counted in, or `None`: it must."""
        if self._queue or self._room_in_ms([], tokens, now_ms):
            return None
        return self._let_in(ticket_id, tokens, now_ms)

    def join(self, ticket_id: str, key_id: str, tokens: int, within_ms: float, now_ms: int) -> Queued | TooLate:
        """Puts a ticket in the queue. Into a full one only before the last, which goes: else the key that filled it
        would keep all others out.

        Args:
            within_ms: longer than that it would not wait.
        """
        tag = max(self._last_tags.get(key_id, 0) + 1, self._tag_let_in)
        ahead = [each for each in self._queue if each.tag <= tag]
        wait_ms = self._room_in_ms(ahead, tokens, now_ms)
        if wait_ms > within_ms or len(ahead) >= self._length:
            return TooLate(wait_ms)
        displaced = self._queue[-1].id if len(self._queue) >= self._length else None
        if displaced is not None:
            self.quit(displaced, now_ms)
        self._last_tags[key_id] = tag
        self._number += 1
        insort(self._queue, _Waiting(tag, self._number, ticket_id, key_id, tokens))
        return Queued(displaced)

    def let_in(self, now_ms: int) -> list[tuple[str, int]]:
        """Lets in all for whom there is room, in their order: their tickets, and the buckets they are counted in."""
        entered = []
        while self._queue and not self._room_in_ms([], self._queue[0].tokens, now_ms):
            first = self._queue.pop(0)
            self._tag_let_in = first.tag
            entered.append((first.id, self._let_in(first.id, first.tokens, now_ms)))
        self._forget_tags()
        return entered

    def opens_in_ms(self, now_ms: int) -> int | None:
        """When the windows have room for the first in the queue; `None`: nobody waits for that."""
        if not self._queue:
            return None
        return self._windows_open_in_ms(1, self._queue[0].tokens, now_ms) or None

    def quit(self, ticket_id: str, now_ms: int) -> float:
        """Takes a ticket out of the queue; how long its turn would still have taken."""
        at = next((at for at, each in enumerate(self._queue) if each.id == ticket_id), None)
        if at is None:
            return 0
        left = self._queue.pop(at)
        if self._last_tags.get(left.key_id) == left.tag:
            self._last_tags[left.key_id] -= 1
        wait_ms = self._room_in_ms(self._queue[:at], left.tokens, now_ms)
        self._forget_tags()
        return wait_ms

    def adopt(self, ticket_id: str) -> None:
        """Counts one as inside who was let in elsewhere."""
        self._inside.add(ticket_id)

    def leave(self, ticket_id: str, took_ms: float | None) -> None:
        """Frees a slot.

        Args:
            took_ms: how long it was held; `None`: its upstream was not asked.
        """
        self._inside.discard(ticket_id)
        if took_ms is not None:
            before = took_ms if self._turn_ms is None else self._turn_ms
            self._turn_ms = before + _HABIT * (took_ms - before)

    def correct(self, bucket: int, *, requests: int, tokens: int) -> None:
        """Puts right what was counted in a bucket."""
        self._requests.correct(bucket, requests)
        self._tokens.correct(bucket, tokens)

    def tokens_counted(self, tokens: int) -> int:
        """What of a ticket's tokens counts in their window."""
        return tokens if self.limits.tpm is None else counted(tokens, self.limits.tpm)

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not (self._queue or self._inside or self._requests.total(now_ms))

    def _let_in(self, ticket_id: str, tokens: int, now_ms: int) -> int:
        self._inside.add(ticket_id)
        self._tokens.add(self.tokens_counted(tokens), now_ms)
        return self._requests.add(1, now_ms)

    def _forget_tags(self) -> None:
        if not self._queue:
            self._last_tags.clear()
            self._tag_let_in = 0

    def _room_in_ms(self, ahead: Sequence[_Waiting], tokens: int, now_ms: int) -> float:
        """How long until a ticket has room, behind others; 0: it has some now, if there are none. A mean where it is
        for others to leave."""
        places = len(ahead) + 1
        counted_tokens = sum(self.tokens_counted(each.tokens) for each in ahead) + self.tokens_counted(tokens)
        windows_ms = self._windows_open_in_ms(places, counted_tokens, now_ms)
        slots = self.limits.concurrency
        if slots is None:
            return windows_ms
        if slots <= 0:
            return NEVER_MS
        missing = len(self._inside) + places - slots
        if missing <= 0:
            return windows_ms
        return max(windows_ms, 1, missing * (self._turn_ms or 0) / slots)

    def _windows_open_in_ms(self, requests: int, tokens: int, now_ms: int) -> int:
        rpm, tpm = self.limits.rpm, self.limits.tpm
        return max(
            0 if rpm is None else self._requests.room_in_ms(requests, rpm, now_ms),
            0 if tpm is None else self._tokens.room_in_ms(tokens, tpm, now_ms),
        )
