"""What a request cost, and its row."""

from __future__ import annotations

import json
from inspect import signature
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.interfaces import AttemptRow, LedgerRow
from app.accounts.usage import (
    NO_TARIFF,
    book,
    book_attempt,
    has_tiers,
    is_unpriced,
    tariff_json,
    tariff_of,
    usage_of,
    volume_units,
    with_attempts,
    with_volume,
)
from app.core.events import UsageReport, UsageSource
from app.core.money import FREE, Prices, Tariff, Tier

TARIFF = Tariff(input_per_million=4_000_000, output_per_million=12_000_000, cached_per_million=1_000_000, per_call=7)
USAGE = UsageReport(input_tokens=1000, output_tokens=200, cached_tokens=100, reasoning_tokens=50, image_count=2)


def attempted(number: int = 1, **changes: Any) -> AttemptRow:
    known: dict[str, Any] = {
        "model": "qwen-vl-vision",
        "backend": "qwen",
        "backend_model": "qwen-vl-plus",
        "backend_request_id": "up-1",
        "usage": USAGE,
        "tariff": TARIFF,
        "total_ms": 880.5,
        "outcome": "finished",
    }
    return book_attempt(number=number, **{**known, **changes})


def booked(*attempts: AttemptRow, **changes: Any) -> LedgerRow:
    """A row of these attempts; of one that is changed likewise where none are given."""
    known: dict[str, Any] = {
        "request_id": "r1",
        "started_at": 1000.5,
        "key_id": "key_1",
        "model": "qwen-vl-vision",
        "stream": True,
        "tariff": TARIFF,
        "first_event_ms": 120.4,
        "total_ms": 900.6,
        "outcome": "finished",
    }
    of_one = changes.keys() & (signature(book_attempt).parameters.keys())
    of_row = changes.keys() & known.keys() | changes.keys() & {"error_code"}
    assert changes.keys() == of_one | of_row
    only = (attempted(**{name: changes[name] for name in of_one}),)
    return book(attempts=attempts or only, **{**known, **{name: changes[name] for name in of_row}})


def test_finished_request_pays_what_was_reported() -> None:
    row = booked()
    assert row.cost_micros == 900 * 4 + 100 * 1 + 200 * 12 + 7
    assert (row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens) == (1000, 200, 100, 50)
    assert (row.image_count, row.usage_source, row.first_event_ms, row.total_ms) == (2, "upstream", 120, 901)


def test_caller_who_left_pays_what_was_produced() -> None:
    row = booked(outcome="gone", usage=UsageReport(output_tokens=10, source="counted"))
    assert (row.cost_micros, row.usage_source, row.outcome) == (10 * 12 + 7, "counted", "gone")


def test_request_that_delivered_nothing_pays_nothing_not_even_the_call() -> None:
    row = booked(usage=None, outcome="failed", error_code="backend_timeout", first_event_ms=None)
    assert (row.cost_micros, row.input_tokens, row.output_tokens, row.image_count) == (0, 0, 0, 0)
    assert (row.outcome, row.error_code, row.first_event_ms) == ("failed", "backend_timeout", None)


def test_tariff_stands_in_the_row_so_that_the_cost_can_be_checked() -> None:
    row = booked()
    assert Tariff(**json.loads(row.tariff)).cost_micros(USAGE) == row.cost_micros


def test_unknown_tariff_is_not_the_same_as_free() -> None:
    unknown, free = booked(tariff=None), booked(tariff=FREE)
    assert unknown.cost_micros == free.cost_micros == 0
    assert unknown.tariff == NO_TARIFF != free.tariff


def test_names_of_others_are_made_printable_and_cut() -> None:
    row = booked(model="\x1b[31mred\ud800", backend_model="x" * 1000, backend_request_id="a\nb")
    assert row.model == "\ufffd[31mred\ufffd"
    assert len(row.backend_model) == 256
    assert row.backend_request_id == "a\ufffdb"
    assert booked(backend_request_id=None).backend_request_id is None


def test_row_adds_up_its_attempts() -> None:
    read = attempted(1, backend="ocr", tariff=Tariff(per_image=5), usage=UsageReport(0, 30, 0, 0, 2, "counted"))
    row = booked(read, attempted(2, total_ms=10))
    assert (row.input_tokens, row.output_tokens, row.cached_tokens, row.reasoning_tokens) == (1000, 230, 100, 50)
    assert (row.image_count, row.usage_source) == (4, "counted")
    assert row.cost_micros == 10 + row.attempts[1].cost_micros
    assert (row.backend, row.backend_request_id, row.tariff) == ("qwen", "up-1", row.attempts[1].tariff)
    assert [(attempt.number, attempt.backend, attempt.total_ms) for attempt in row.attempts] == [
        (1, "ocr", 880),
        (2, "qwen", 10),
    ]


def test_cost_of_a_row_can_be_checked_from_its_attempts() -> None:
    read = attempted(1, tariff=Tariff(output_per_million=3_000_000, per_image=5))
    row = booked(read, attempted(2))
    checked = [Tariff(**json.loads(attempt.tariff)).cost_micros(usage_of((attempt,))) for attempt in row.attempts]
    assert checked == [attempt.cost_micros for attempt in row.attempts]
    assert sum(checked) == row.cost_micros


@pytest.mark.parametrize(
    ("sources", "weakest"),
    [
        (("upstream", "upstream"), "upstream"),
        (("upstream", "counted"), "counted"),
        (("estimated", "counted"), "estimated"),
    ],
)
def test_usage_is_as_sure_as_the_least_sure_of_its_attempts(sources: tuple[UsageSource, ...], weakest: str) -> None:
    row = booked(*(attempted(at, usage=UsageReport(1, source=source)) for at, source in enumerate(sources, 1)))
    assert row.usage_source == weakest


def test_attempt_that_failed_before_its_first_word_says_nothing_of_the_usage() -> None:
    failed = attempted(1, usage=None, outcome="failed", error_code="backend_timeout")
    row = booked(failed, attempted(2))
    assert (row.usage_source, row.cost_micros, row.attempts[0].cost_micros) == (
        "upstream",
        row.attempts[1].cost_micros,
        0,
    )
    assert (row.attempts[0].outcome, row.attempts[0].error_code) == ("failed", "backend_timeout")
    assert (row.outcome, row.error_code) == ("finished", None)


def test_request_is_unpriced_if_anything_used_has_no_tariff() -> None:
    assert is_unpriced(booked(attempted(1, tariff=None), attempted(2)))
    assert is_unpriced(booked(attempted(1), attempted(2, tariff=None)))
    assert booked(attempted(1, tariff=None), attempted(2)).cost_micros == attempted().cost_micros


def test_request_is_priced_if_what_has_no_tariff_was_not_used() -> None:
    row = booked(attempted(1), attempted(2, tariff=None, usage=None, outcome="failed"), outcome="failed")
    assert not is_unpriced(row)
    assert row.tariff == row.attempts[0].tariff


def test_refused_request_has_no_attempts_and_costs_nothing() -> None:
    row = book(
        request_id="r1", started_at=1.0, key_id="k", model="m", stream=False, attempts=(), tariff=TARIFF,
        first_event_ms=None, total_ms=1, outcome="failed", error_code="unsupported_feature",
    )  # fmt: skip
    assert (row.backend, row.backend_model, row.backend_request_id, row.attempts) == ("", "", None, ())
    assert (row.cost_micros, row.input_tokens, row.usage_source) == (0, 0, "counted")
    assert Tariff(**json.loads(row.tariff)) == TARIFF


@pytest.mark.parametrize("count", [-1, 10**30])
def test_nonsense_of_a_backend_is_brought_into_bounds(count: int) -> None:
    row = booked(usage=UsageReport(count, count, count, count, count))
    assert 0 <= row.input_tokens <= 10**9
    assert 0 <= row.cost_micros <= 10**15
    assert row.cached_tokens <= row.input_tokens


COUNTS = st.integers(min_value=-(2**70), max_value=2**70)


@given(st.builds(UsageReport, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), st.floats(-1e9, 1e9), COUNTS)
def test_every_number_of_a_row_fits_a_64_bit_column(usage: UsageReport, elapsed_ms: float, price: int) -> None:
    attempt = attempted(usage=usage, tariff=Tariff(price, price), total_ms=elapsed_ms)
    row = booked(attempt, attempt, attempt, first_event_ms=elapsed_ms, total_ms=elapsed_ms)
    numbers = [
        value
        for part in (row, attempt)
        for field in type(part).__slots__
        if isinstance(value := getattr(part, field), int)
    ]
    assert all(0 <= number < 2**63 for number in numbers)


TIERED = Tariff(
    input_per_million=4_000_000,
    output_per_million=12_000_000,
    tiers=(Tier(1000, Prices(2_000_000, 6_000_000, cached_per_million=500_000)), Tier(5000, Prices(per_call=3))),
)


@pytest.mark.parametrize(
    "tariff", [FREE, TARIFF, TIERED, Tariff(per_call=1, volume="calls", tiers=(Tier(1, Prices()),))]
)
def test_tariff_that_a_row_keeps_is_read_back(tariff: Tariff) -> None:
    assert tariff_of(tariff_json(tariff)) == tariff


def test_unknown_tariff_is_read_back_as_none() -> None:
    assert tariff_json(None) == NO_TARIFF
    assert tariff_of(NO_TARIFF) is None


def test_tariff_without_tiers_is_kept_as_it_was_before_there_were_tiers() -> None:
    assert tariff_json(TARIFF) == (
        '{"cached_per_million":1000000,"input_per_million":4000000,"output_per_million":12000000,"per_call":7,'
        '"per_image":0}'
    )
    assert not has_tiers(attempted())


def test_row_of_before_there_were_tiers_is_read() -> None:
    """Such a row may also lack what has a default."""
    assert tariff_of('{"input_per_million":4,"output_per_million":5}') == Tariff(4, 5)
    assert tariff_of("{}") == FREE


def test_reading_a_tariff_twice_gives_the_same_one() -> None:
    text = tariff_json(TIERED)
    assert tariff_of(text) == tariff_of(text) == TIERED


def test_attempt_with_tiers_is_known_by_its_text() -> None:
    assert has_tiers(attempted(tariff=TIERED))
    assert not has_tiers(attempted(tariff=None))


def test_attempt_is_priced_by_its_place_in_the_months_volume() -> None:
    usage = UsageReport(input_tokens=100, output_tokens=50)
    first = attempted(tariff=TIERED, usage=usage)
    assert (first.cost_micros, first.volume_before) == (100 * 4 + 50 * 12, 0)
    later = with_volume(first, TIERED, 1000)
    assert (later.cost_micros, later.volume_before) == (100 * 2 + 50 * 6, 1000)
    assert later == attempted(tariff=TIERED, usage=usage, volume_before=1000)
    assert with_volume(later, TIERED, 0) == first


def test_row_is_the_sum_of_attempts_that_were_priced_anew() -> None:
    row = booked(attempted(1, tariff=TIERED), attempted(2, tariff=TIERED))
    priced = [with_volume(attempt, TIERED, 5000) for attempt in row.attempts]
    changed = with_attempts(row, priced)
    assert changed.cost_micros == 6
    assert changed.attempts == tuple(priced)
    assert with_attempts(changed, row.attempts) == row


def test_only_what_is_paid_adds_to_the_volume() -> None:
    assert volume_units(attempted(tariff=TIERED), TIERED) == 1200
    nothing = attempted(tariff=TIERED, usage=None, outcome="failed")
    assert volume_units(nothing, TIERED) == 0
    by_call = Tariff(per_call=1, volume="calls", tiers=(Tier(1, Prices()),))
    assert volume_units(attempted(tariff=by_call), by_call) == 1
    assert volume_units(attempted(tariff=by_call, usage=UsageReport()), by_call) == 1
    assert volume_units(attempted(tariff=by_call, usage=None, outcome="failed"), by_call) == 0
    assert volume_units(attempted(tariff=by_call, usage=None, outcome="gone"), by_call) == 0
    assert volume_units(attempted(tariff=by_call, outcome="gone"), by_call) == 1


def test_request_under_way_stands_as_it_would_be_booked() -> None:
    running = attempted(outcome="running")
    row = book(
        request_id="r1", started_at=1.0, key_id="k", model="m", stream=False, attempts=(running,), tariff=TARIFF,
        first_event_ms=None, total_ms=1, outcome="running", state="dispatched", hold_micros=9000, day="2025-11-20",
        lease_until=21.0, queued_ms=3.6,
    )  # fmt: skip
    assert (row.state, row.outcome, row.hold_micros, row.day) == ("dispatched", "running", 9000, "2025-11-20")
    assert (row.lease_until, row.queued_ms, row.cost_micros) == (21.0, 4, running.cost_micros)
    assert booked().state == "settled"


def test_usage_of_no_attempt_is_nothing() -> None:
    assert usage_of(()) == UsageReport(source="counted")
