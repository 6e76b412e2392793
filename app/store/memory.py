"""Windows and slots kept by this process alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from typing_extensions import override

from app.accounts.limits import (
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
from app.accounts.sliding import SlidingWindow
from app.core.clock import Clock

_WINDOWS_UNSWEPT = 1000
_SLOT_WAIT_MS = 1000.0
"""Nobody knows when a request of the caller's will end: soon, most do."""

_Name: TypeAlias = tuple[str, str]
"""Owner and name of a window or slot."""


@dataclass(slots=True)
class _Held:
    """What is in use, by owner and name. Windows in which nothing counts are swept out now and then."""

    windows: dict[_Name, SlidingWindow] = field(default_factory=dict)
    slots: dict[_Name, set[str]] = field(default_factory=dict)
    sweep_at: int = _WINDOWS_UNSWEPT


class MemoryWindows(Windows):
    """Windows and slots of this process.

    Args:
        span_s: what a minute is.
        alone: this process stands in for a store shared with others.
    """

    def __init__(self, clock: Clock, *, span_s: float = SPAN_S, alone: bool = False) -> None:
        self._clock = clock
        self._span_ms = round(span_s * 1000)
        self._alone = alone
        self._held = _Held()

    @override
    async def enter(self, demand: Demand) -> Admitted | Refused:
        return self.enter_now(demand)

    def enter_now(self, demand: Demand) -> Admitted | Refused:
        """As `enter`, which waits for nothing here."""
        now_ms = int(self._clock.monotonic() * 1000)
        if len(self._held.windows) >= self._held.sweep_at:
            self._sweep(now_ms)
        owner = demand.owner
        kept: list[tuple[Window, SlidingWindow]] = []
        lacking: Window | Slots | None = None
        wait_ms = 0.0
        for window in demand.windows:
            passed = self._window((owner, window.name))
            kept.append((window, passed))
            room_in_ms = passed.room_in_ms(window.taken, window.limit, now_ms)
            if room_in_ms > wait_ms:
                lacking, wait_ms = window, room_in_ms
        for slots in demand.slots:
            if lacking is None and len(self._held.slots.get((owner, slots.name), ())) >= slots.limit:
                lacking, wait_ms = slots, _SLOT_WAIT_MS
        if lacking is not None:
            return Refused(lacking, retry_after_s(wait_ms), self._alone, _standings(kept, now_ms))
        bucket = 0
        for window, passed in kept:
            bucket = passed.add(window.taken, now_ms)
        lease = self._clock.nonce() if demand.slots else ""
        admitted = Admitted(demand, lease, bucket, self._alone, _standings(kept, now_ms))
        self.adopt(admitted)
        return admitted

    def adopt(self, admitted: Admitted) -> None:
        """Counts the slots of a request, wherever it was admitted."""
        for slots in admitted.demand.slots:
            self._held.slots.setdefault((admitted.demand.owner, slots.name), set()).add(admitted.lease)

    @override
    def leave(self, admitted: Admitted, used: int | None = None) -> None:
        owner = admitted.demand.owner
        if used is not None:
            for window in admitted.demand.windows:
                passed = self._held.windows.get((owner, window.name))
                if passed is not None and window.of_tokens:
                    passed.correct(admitted.bucket, used - window.taken)
        self.leave_slots(admitted)

    def leave_slots(self, admitted: Admitted) -> None:
        """Frees the slots of a request, wherever it was admitted."""
        for slots in admitted.demand.slots:
            name = (admitted.demand.owner, slots.name)
            leases = self._held.slots.get(name, set())
            leases.discard(admitted.lease)
            if not leases:
                self._held.slots.pop(name, None)

    def _window(self, name: _Name) -> SlidingWindow:
        window = self._held.windows.get(name)
        if window is None:
            window = self._held.windows[name] = SlidingWindow(self._span_ms)
        return window

    def _sweep(self, now_ms: int) -> None:
        held = self._held
        held.windows = {name: each for name, each in held.windows.items() if each.total(now_ms)}
        held.sweep_at = max(_WINDOWS_UNSWEPT, 2 * len(held.windows))


def _standings(kept: Sequence[tuple[Window, SlidingWindow]], now_ms: int) -> tuple[Standing, ...]:
    return tuple(
        Standing(window.limit, max(0, window.limit - passed.total(now_ms)), passed.reset_ms(now_ms) / 1000)
        for window, passed in kept
    )
