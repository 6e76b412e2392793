"""What only limits kept in memory have to mind."""

from __future__ import annotations

from app.accounts.limits import Demand, Window
from app.store.memory import MemoryWindows
from tests.gateway.limited import Time
from tests.store.shared_stores import admitted, refused, requests


async def test_windows_in_which_nothing_counts_are_not_kept() -> None:
    time = Time()
    windows = MemoryWindows(time.clock)
    for number in range(1000):
        admitted(await windows.enter(requests(1, f"key_{number}")))
    time.now_s += 61
    admitted(await windows.enter(requests(1, "key_0")))
    assert len(windows._held.windows) == 1  # memory has no public door


async def test_windows_are_swept_out_between_requests_only() -> None:
    time = Time()
    windows = MemoryWindows(time.clock)
    for number in range(999):
        admitted(await windows.enter(requests(1, f"key_{number}")))
    both = Demand("key_a", (Window("rpm", 1), Window("rpm:model", 1)))
    admitted(await windows.enter(both))
    admitted(await windows.enter(Demand("key_a", (Window("rpm:other", 1),))))
    refused(await windows.enter(both))
