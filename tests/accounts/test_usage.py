"""What a request cost, and its row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.accounts.interfaces import LedgerRow
from app.accounts.usage import NO_TARIFF, book
from app.core.events import UsageReport
from app.core.money import FREE, Tariff

TARIFF = Tariff(input_per_million=4_000_000, output_per_million=12_000_000, cached_per_million=1_000_000, per_call=7)
USAGE = UsageReport(input_tokens=1000, output_tokens=200, cached_tokens=100, reasoning_tokens=50, image_count=2)


def booked(**changes: Any) -> LedgerRow:
    known: dict[str, Any] = {
        "request_id": "r1",
        "started_at": 1000.5,
        "key_id": "key_1",
        "model": "qwen-vl-vision",
        "backend": "qwen",
        "backend_model": "qwen-vl-plus",
        "backend_request_id": "up-1",
        "stream": True,
        "usage": USAGE,
        "tariff": TARIFF,
        "first_event_ms": 120.4,
        "total_ms": 900.6,
        "outcome": "finished",
    }
    return book(**{**known, **changes})


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


@pytest.mark.parametrize("count", [-1, 10**30])
def test_nonsense_of_a_backend_is_brought_into_bounds(count: int) -> None:
    row = booked(usage=UsageReport(count, count, count, count, count))
    assert 0 <= row.input_tokens <= 10**9
    assert 0 <= row.cost_micros <= 10**15
    assert row.cached_tokens <= row.input_tokens


COUNTS = st.integers(min_value=-(2**70), max_value=2**70)


@given(st.builds(UsageReport, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS), st.floats(-1e9, 1e9), COUNTS)
def test_every_number_of_a_row_fits_a_64_bit_column(usage: UsageReport, elapsed_ms: float, price: int) -> None:
    row = booked(usage=usage, tariff=Tariff(price, price), first_event_ms=elapsed_ms, total_ms=elapsed_ms)
    numbers = [value for field in LedgerRow.__slots__ if isinstance(value := getattr(row, field), int)]
    assert all(0 <= number < 2**63 for number in numbers)
