"""Whose turn is next."""

from __future__ import annotations

from app.accounts.sliding import NEVER_MS
from app.accounts.turnstile import Queued, TooLate, Turnstile
from app.core.limits import Limits

SPAN_MS = 60_000
LONG_MS = 10_000_000


def turnstile(
    *, length: int = 200, rpm: int | None = None, tpm: int | None = None, slots: int | None = None
) -> Turnstile:
    made = Turnstile(length=length, span_ms=SPAN_MS)
    made.limits = Limits(rpm, tpm, slots)
    return made


def queued(scope: Turnstile, *tickets: str, tokens: int = 1) -> None:
    """Puts tickets in the queue, each named for its key and a number, as `a1`."""
    for ticket in tickets:
        assert isinstance(scope.join(ticket, ticket[0], tokens, LONG_MS, 0), Queued)


def order(scope: Turnstile, inside: str) -> list[str]:
    """Lets one after the other out; who came in, in order."""
    seen = []
    while inside:
        scope.leave(inside, 10)
        entered = scope.let_in(0)
        inside = entered[0][0] if entered else ""
        seen += [ticket for ticket, _ in entered]
    return seen


def test_without_limits_nobody_waits() -> None:
    scope = turnstile()
    assert [scope.enter(str(number), 1, 0) for number in range(3)] == [0, 0, 0]


def test_one_who_finds_no_slot_must_wait() -> None:
    scope = turnstile(slots=1)
    assert scope.enter("a1", 1, 0) is not None
    assert scope.enter("a2", 1, 0) is None


def test_nobody_passes_those_who_wait() -> None:
    scope = turnstile(slots=1)
    scope.enter("a1", 1, 0)
    queued(scope, "a2")
    scope.leave("a1", 10)
    assert scope.enter("b1", 1, 0) is None
    assert [ticket for ticket, _ in scope.let_in(0)] == ["a2"]


def test_greedy_key_delays_another_by_one_turn() -> None:
    scope = turnstile(slots=1)
    scope.enter("a0", 1, 0)
    queued(scope, *(f"a{number}" for number in range(1, 100)))
    scope.leave("a0", 10)
    scope.let_in(0)
    queued(scope, "b1", "b2")
    assert order(scope, "a1")[:4] == ["b1", "a2", "b2", "a3"]


def test_newcomer_has_no_claim_on_turns_it_did_not_wait_for() -> None:
    scope = turnstile(slots=1)
    scope.enter("x0", 1, 0)
    queued(scope, *(f"a{number}" for number in range(1, 7)))
    for number in range(1, 5):
        scope.leave("x0" if number == 1 else f"a{number - 1}", 10)
        scope.let_in(0)
    queued(scope, "b1", "b2", "b3")
    assert order(scope, "a4") == ["b1", "a5", "b2", "a6", "b3"]


def test_keys_begin_anew_once_nobody_waits() -> None:
    scope = turnstile(slots=1)
    scope.enter("a0", 1, 0)
    queued(scope, "a1", "a2")
    order(scope, "a0")
    scope.enter("x0", 1, 0)
    queued(scope, "a3", "b1")
    assert order(scope, "x0") == ["a3", "b1"]


def test_full_queue_refuses_the_key_that_filled_it() -> None:
    scope = turnstile(slots=1, length=2)
    scope.enter("a0", 1, 0)
    queued(scope, "a1", "a2")
    assert isinstance(scope.join("a3", "a", 1, LONG_MS, 0), TooLate)
    assert scope.waiting == 2


def test_full_queue_makes_room_for_another_key_at_its_end() -> None:
    scope = turnstile(slots=1, length=2)
    scope.enter("a0", 1, 0)
    queued(scope, "a1", "a2")
    assert scope.join("b1", "b", 1, LONG_MS, 0) == Queued(displaced="a2")
    assert order(scope, "a0") == ["a1", "b1"]


def test_wait_for_a_slot_is_told_by_how_long_turns_take() -> None:
    scope = turnstile(slots=2)
    for ticket in ("a1", "a2"):
        scope.enter(ticket, 1, 0)
    scope.leave("a1", 4_000)
    scope.enter("a3", 1, 0)
    queued(scope, "a4")
    assert scope.join("a5", "a", 1, 3_999, 0) == TooLate(4_000)
    assert scope.join("a5", "a", 1, 4_000, 0) == Queued()


def test_newest_turns_tell_more_of_how_long_turns_take() -> None:
    scope = turnstile(slots=1)
    for took_ms in (1_000, 2_000):
        scope.enter("a", 1, 0)
        scope.leave("a", took_ms)
    scope.enter("a", 1, 0)
    scope.enter("a", 1, 0)
    assert scope.join("b", "b", 1, 0, 0) == TooLate(1_200)


def test_turn_that_asked_nobody_says_nothing_of_how_long_turns_take() -> None:
    scope = turnstile(slots=1)
    scope.enter("a", 1, 0)
    scope.leave("a", None)
    scope.enter("a", 1, 0)
    assert scope.join("b", "b", 1, 0, 0) == TooLate(1)


def test_wait_for_a_window_is_exact() -> None:
    scope = turnstile(rpm=1)
    scope.enter("a1", 1, 0)
    assert scope.opens_in_ms(0) is None
    assert scope.join("a2", "a", 1, 60_099, 0) == TooLate(60_100)
    assert scope.join("a2", "a", 1, 60_100, 0) == Queued()
    assert scope.opens_in_ms(100) == 60_000
    assert scope.let_in(60_099) == []
    assert [ticket for ticket, _ in scope.let_in(60_100)] == ["a2"]


def test_those_ahead_count_in_a_window() -> None:
    scope = turnstile(tpm=100)
    scope.enter("a1", 90, 0)
    queued(scope, "a2", tokens=60)
    assert scope.join("a3", "a", 60, SPAN_MS, 0) == TooLate(2 * 60_100)


def test_one_who_waits_for_a_slot_waits_for_no_window() -> None:
    scope = turnstile(slots=1, rpm=10)
    scope.enter("a1", 1, 0)
    queued(scope, "a2")
    assert scope.opens_in_ms(0) is None


def test_one_who_leaves_the_queue_frees_its_place_and_its_turn() -> None:
    scope = turnstile(slots=1)
    scope.enter("a0", 1, 0)
    queued(scope, "a1", "a2", "b1")
    scope.quit("a1", 0)
    scope.quit("a2", 0)
    queued(scope, "b2", "a3")
    assert order(scope, "a0") == ["b1", "b2", "a3"]


def test_one_who_leaves_the_queue_learns_how_long_it_would_have_taken() -> None:
    scope = turnstile(slots=1, rpm=1)
    scope.enter("a0", 1, 0)
    queued(scope, "a1")
    assert scope.quit("a1", 10_000) == 50_100
    assert scope.quit("a1", 10_000) == 0


def test_what_was_used_beyond_an_estimate_counts() -> None:
    scope = turnstile(tpm=100)
    bucket = scope.enter("a1", 10, 0)
    assert bucket is not None
    scope.correct(bucket, requests=0, tokens=80)
    assert scope.enter("a2", 20, 0) is None
    assert scope.enter("a2", 10, 0) is not None


def test_ticket_over_the_limit_passes_an_empty_window() -> None:
    scope = turnstile(tpm=100)
    assert scope.enter("a1", 5_000, 0) is not None
    assert scope.tokens_counted(5_000) == 100
    assert scope.enter("a2", 1, 0) is None


def test_slot_taken_elsewhere_counts() -> None:
    scope = turnstile(slots=1)
    scope.adopt("there")
    assert scope.enter("a1", 1, 0) is None
    scope.leave("there", None)
    assert scope.enter("a1", 1, 0) is not None


def test_no_slot_at_all_is_never_waited_for() -> None:
    assert turnstile(slots=0).join("a1", "a", 1, LONG_MS, 0) == TooLate(NEVER_MS)


def test_idle_is_who_holds_nothing() -> None:
    scope = turnstile(slots=1)
    assert scope.is_idle(0)
    scope.enter("a1", 1, 0)
    assert not scope.is_idle(0)
    queued(scope, "a2")
    scope.leave("a1", 1)
    assert not scope.is_idle(2 * SPAN_MS)
    scope.quit("a2", 0)
    assert scope.is_idle(2 * SPAN_MS)
