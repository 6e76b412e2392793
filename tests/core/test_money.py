from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.events import UsageReport
from app.core.money import FREE, MICROS_PER_YUAN, Tariff, format_yuan, parse_yuan

prices = st.integers(0, 10**9)
counts = st.integers(0, 10**7)
tariffs = st.builds(
    Tariff,
    input_per_million=prices,
    output_per_million=prices,
    cached_per_million=st.none() | prices,
    per_image=prices,
    per_call=prices,
)
usages = st.builds(
    UsageReport,
    input_tokens=counts,
    output_tokens=counts,
    cached_tokens=counts,
    image_count=st.integers(0, 50),
)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("4.29", 4_290_000), ("0", 0), ("12", 12_000_000), ("0.000001", 1), ("1.20000000", 1_200_000), ("007", 7_000_000)],
)
def test_amounts_are_read_as_micro_yuan(text: str, micros: int) -> None:
    assert parse_yuan(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "-0", "+1", " 1", "1e3", "1e999999999", "1_0", "１", "1,5", ".5", "5.", "nan", "Infinity", "¥1"),
        *("0.0000001", "1.0000000000000000000000000000001"),
    ],
)
def test_anything_but_a_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_yuan(text)


@given(st.text(alphabet="0123456789.-+e_ ", max_size=12))
def test_reading_agrees_with_decimal_arithmetic(text: str) -> None:
    try:
        micros = parse_yuan(text)
    except ValueError:
        return
    assert Fraction(Decimal(text)) * MICROS_PER_YUAN == micros


@given(st.integers(0, 10**17))
def test_what_is_written_is_read_back(micros: int) -> None:
    assert parse_yuan(format_yuan(micros)) == micros


def test_money_back_has_a_sign() -> None:
    assert format_yuan(-1_500_000) == "-1.500000"
    assert format_yuan(1234) == "0.001234"


@pytest.mark.parametrize(("tokens", "micros"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2)])
def test_a_cost_is_rounded_half_up_once(tokens: int, micros: int) -> None:
    """A quarter of a micro-yuan per token: 2 tokens make half of one, 6 one and a half."""
    assert Tariff(input_per_million=250_000).cost_micros(UsageReport(input_tokens=tokens)) == micros


def test_halves_of_input_and_output_make_a_whole() -> None:
    tariff = Tariff(input_per_million=400_000, output_per_million=400_000)
    assert tariff.cost_micros(UsageReport(input_tokens=1, output_tokens=1)) == 1


def test_a_price_per_million_is_what_a_million_tokens_cost() -> None:
    tariff = Tariff(input_per_million=parse_yuan("4.29"), output_per_million=parse_yuan("12.86"))
    usage = UsageReport(input_tokens=1_000_000, output_tokens=1_000_000)
    assert format_yuan(tariff.cost_micros(usage)) == "17.150000"


def test_cached_tokens_have_their_price_or_that_of_input() -> None:
    usage = UsageReport(input_tokens=1_000_000, cached_tokens=400_000)
    assert Tariff(input_per_million=100, cached_per_million=10).cost_micros(usage) == 64
    assert Tariff(input_per_million=100).cost_micros(usage) == 100
    assert Tariff(input_per_million=100, cached_per_million=0).cost_micros(usage) == 60


def test_no_more_tokens_count_as_cached_than_there_were() -> None:
    usage = UsageReport(input_tokens=1_000_000, cached_tokens=9_000_000)
    assert Tariff(input_per_million=100, cached_per_million=10).cost_micros(usage) == 10


def test_pictures_and_calls_are_charged_by_the_piece() -> None:
    assert Tariff(per_image=300, per_call=7).cost_micros(UsageReport(image_count=2)) == 607


@given(usages)
def test_free_is_free(usage: UsageReport) -> None:
    assert FREE.cost_micros(usage) == 0


@given(tariffs, usages)
def test_a_cost_is_a_whole_number_within_half_a_micro_of_the_truth(tariff: Tariff, usage: UsageReport) -> None:
    cost = tariff.cost_micros(usage)
    assert type(cost) is int
    cached = min(usage.cached_tokens, usage.input_tokens)
    cached_price = tariff.input_per_million if tariff.cached_per_million is None else tariff.cached_per_million
    true = (
        Fraction(
            (usage.input_tokens - cached) * tariff.input_per_million
            + cached * cached_price
            + usage.output_tokens * tariff.output_per_million,
            1_000_000,
        )
        + usage.image_count * tariff.per_image
        + tariff.per_call
    )
    assert -Fraction(1, 2) < cost - true <= Fraction(1, 2)


@given(
    st.builds(Tariff, input_per_million=prices, output_per_million=prices, per_image=prices),
    st.lists(st.tuples(counts, counts, st.integers(0, 5)), min_size=1, max_size=6),
)
def test_splitting_a_request_changes_its_cost_by_rounding_only(
    tariff: Tariff, split: list[tuple[int, int, int]]
) -> None:
    """Each answer is rounded once, so n answers differ from their sum by less than n/2 + 1/2 micro-yuan."""
    pieces = [UsageReport(input_tokens=i, output_tokens=o, image_count=n) for i, o, n in split]
    total = UsageReport(*(sum(column) for column in zip(*((i, o) for i, o, _ in split), strict=True)))
    images = sum(n for _, _, n in split)
    apart = sum(tariff.cost_micros(piece) for piece in pieces)
    together = tariff.cost_micros(total) + images * tariff.per_image
    assert abs(apart - together) <= (len(pieces) + 1) / 2


@given(tariffs, usages, counts)
def test_more_tokens_never_cost_less(tariff: Tariff, usage: UsageReport, more: int) -> None:
    larger = UsageReport(
        input_tokens=usage.input_tokens + more,
        output_tokens=usage.output_tokens + more,
        cached_tokens=min(usage.cached_tokens, usage.input_tokens),
        image_count=usage.image_count,
    )
    assert tariff.cost_micros(larger) >= tariff.cost_micros(usage)
