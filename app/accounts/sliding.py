"""A window that slides: in every span, wherever it begins, no more passes than the limit.

What passed is kept in buckets of a six-hundredth of the span. A bucket counts until its last possible entry is a whole
span old, so the bound holds exactly, and the limit is reached but for that sixth of a percent. Times are whole
milliseconds, so that nothing is rounded.
"""

from __future__ import annotations

from collections import deque

BUCKETS = 600
NEVER_MS = 10**10
"""Longer than anybody waits: nothing passes a limit of 0."""


class SlidingWindow:
    """What passed in the last span. Times come in order; the caller reads the clock."""

    __slots__ = ("_numbers", "_span_ms", "_total", "_weights", "_width_ms")

    def __init__(self, span_ms: int) -> None:
        self._span_ms = span_ms
        self._width_ms = max(1, span_ms // BUCKETS)
        self._numbers: deque[int] = deque()
        self._weights: dict[int, int] = {}
        self._total = 0

    def total(self, now_ms: int) -> int:
        """What counts now."""
        first = (now_ms - self._span_ms) // self._width_ms
        numbers = self._numbers
        while numbers and numbers[0] < first:
            self._total -= self._weights.pop(numbers.popleft())
        return self._total

    def add(self, weight: int, now_ms: int) -> int:
        """Counts a weight from now on; the number of its bucket."""
        number = now_ms // self._width_ms
        if number in self._weights:
            self._weights[number] += weight
        else:
            self._numbers.append(number)
            self._weights[number] = weight
        self._total += weight
        return number

    def correct(self, bucket: int, more: int) -> None:
        """Adds to what was counted in a bucket, or takes back from it; if that still counts."""
        if bucket in self._weights:
            self._weights[bucket] += more
            self._total += more

    def room_in_ms(self, weight: int, limit: int, now_ms: int) -> int:
        """How long until a weight fits, if nothing else comes; 0: it fits now.

        Args:
            weight: one over the limit is several that pass one after the other.
        """
        total = self.total(now_ms)
        if total + weight <= limit:  # most do, and are not to pay for the rest
            return 0
        if limit <= 0:
            return NEVER_MS
        spans = (weight - 1) // limit
        excess = total + weight - spans * limit - limit
        return spans * (self._span_ms + self._width_ms) + self._gone_in_ms(excess, now_ms)

    def reset_ms(self, now_ms: int) -> int:
        """How long until nothing counts."""
        return self._gone_in_ms(self.total(now_ms), now_ms)

    def _gone_in_ms(self, weight: int, now_ms: int) -> int:
        """How long until so much of what counts does so no more."""
        if weight <= 0:
            return 0
        if weight >= self._total:
            return self._end_ms(self._numbers[-1]) - now_ms
        for number in self._numbers:  # pragma: no branch - the weight is less than their sum
            weight -= self._weights[number]
            if weight <= 0:
                break
        return self._end_ms(number) - now_ms

    def _end_ms(self, number: int) -> int:
        return (number + 1) * self._width_ms + self._span_ms
