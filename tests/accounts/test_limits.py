"""The sliding window, and the parts of limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.limits import Demand, Slots, Window, retry_after_s, share, share_of
from app.accounts.sliding import NEVER_MS, SlidingWindow
from app.core.limits import Limits

SPAN_MS = 60_000


def filled(*entries: tuple[int, int], span_ms: int = SPAN_MS) -> SlidingWindow:
    """A window with weights that were added at times."""
    window = SlidingWindow(span_ms)
    for at_ms, weight in entries:
        window.add(weight, at_ms)
    return window


@given(
    limit=st.integers(1, 20),
    span_ms=st.sampled_from([50, 600, 1000, 60_000]),
    steps=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 25), st.integers(0, 25)), max_size=120),
)
def test_no_span_holds_more_than_the_limit(limit: int, span_ms: int, steps: list[tuple[int, int, int]]) -> None:
    window, now_ms, admitted = SlidingWindow(span_ms), 0, []
    for pause, wish, used in steps:
        now_ms += pause * span_ms // 1000
        weight = min(wish, limit)
        if window.room_in_ms(weight, limit, now_ms) == 0:
            bucket = window.add(weight, now_ms)
            window.correct(bucket, min(used, weight) - weight)
            admitted.append((now_ms, min(used, weight)))
    for start_ms, _ in admitted:
        assert sum(weight for at_ms, weight in admitted if start_ms <= at_ms <= start_ms + span_ms) <= limit


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 9)), min_size=1, max_size=60), st.integers(1, 9))
def test_a_wait_that_is_told_is_the_shortest_that_is_enough(entries: list[tuple[int, int]], weight: int) -> None:
    window, now_ms = SlidingWindow(SPAN_MS), 0
    for pause_ms, added in entries:
        now_ms += pause_ms
        if window.room_in_ms(added, 9, now_ms) == 0:
            window.add(added, now_ms)
    wait_ms = window.room_in_ms(weight, 9, now_ms)
    if wait_ms:
        assert window.room_in_ms(weight, 9, now_ms + wait_ms - 1) > 0
    assert window.room_in_ms(weight, 9, now_ms + wait_ms) == 0


def test_a_saturated_window_lets_through_all_but_a_sixth_of_a_percent() -> None:
    window, passed = SlidingWindow(SPAN_MS), 0
    for now_ms in range(0, 20 * SPAN_MS, 20):
        if window.room_in_ms(1, 60, now_ms) == 0:
            window.add(1, now_ms)
            passed += 1
    assert passed >= 0.998 * 20 * 60


def test_what_was_reserved_too_much_is_room_again() -> None:
    window = filled()
    bucket = window.add(10, 5_000)
    window.correct(bucket, -7)
    assert window.room_in_ms(7, 10, 5_000) == 0
    assert window.room_in_ms(8, 10, 5_000) > 0


def test_what_was_used_beyond_a_reservation_counts() -> None:
    window = filled()
    window.correct(window.add(1, 0), 20)
    assert window.total(1_000) == 21
    assert window.room_in_ms(1, 10, 1_000) == SPAN_MS + 100 - 1_000


def test_corrections_of_what_counts_no_more_change_nothing() -> None:
    window = filled()
    bucket = window.add(10, 0)
    assert window.total(2 * SPAN_MS) == 0
    window.correct(bucket, 5)
    assert window.total(2 * SPAN_MS) == 0


def test_entries_of_the_same_moment_share_a_bucket() -> None:
    window = filled()
    assert window.add(1, 1_000) == window.add(2, 1_050)
    assert window.total(1_050) == 3


def test_more_than_the_limit_passes_in_several_spans() -> None:
    assert filled().room_in_ms(25, 10, 0) == 2 * (SPAN_MS + 100)


def test_nothing_passes_a_limit_of_zero() -> None:
    assert filled().room_in_ms(1, 0, 0) == NEVER_MS


def test_window_is_empty_when_its_last_entry_is_a_span_old() -> None:
    window = filled((0, 1), (30_000, 1))
    assert window.reset_ms(40_000) == 30_100 + SPAN_MS - 40_000
    assert filled().reset_ms(0) == 0


@pytest.mark.parametrize(("weight", "limit", "taken"), [(5, 10, 5), (15, 10, 10), (0, 10, 1), (3, 0, 1)])
def test_weight_counts_as_the_limit_at_most_and_as_one_at_least(weight: int, limit: int, taken: int) -> None:
    assert Window("tpm", limit, weight).taken == taken


@given(st.integers(0, 1000), st.integers(1, 50))
def test_shares_together_are_no_more_than_the_limit(limit: int, nodes: int) -> None:
    assert share(limit, nodes) * nodes <= max(limit, nodes)
    assert (share(limit, nodes) > 0) == (limit > 0)


def test_demand_on_a_share_has_a_part_of_each_limit() -> None:
    demand = Demand("key_a", (Window("tpm", 90, 50, of_tokens=True),), (Slots("slots", 2),))
    assert demand.shared_by(3) == Demand("key_a", (Window("tpm", 30, 50, of_tokens=True),), (Slots("slots", 1),))


def test_part_of_no_limit_is_no_limit() -> None:
    assert share_of(Limits(rpm=10, concurrency=4), 2) == Limits(rpm=5, concurrency=2)


@pytest.mark.parametrize(("wait_ms", "told_s"), [(0, 1), (200, 1), (1_001, 2), (4_000, 4), (60_100, 60)])
def test_callers_are_told_whole_seconds_from_one_to_sixty(wait_ms: float, told_s: float) -> None:
    assert retry_after_s(wait_ms) == told_s
