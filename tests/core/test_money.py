from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.events import UsageReport
from app.core.money import FREE, MICROS_PER_YUAN, Prices, Tariff, Tier, VolumeUnit, format_yuan, parse_yuan

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


HALVES = Tariff(
    input_per_million=8_000_000,
    output_per_million=8_000_000,
    tiers=(Tier(100, Prices(4_000_000, 4_000_000)), Tier(200, Prices(2_000_000, 2_000_000))),
)
"""8 micro-yuan a token, 4 from the 101st of the month on, 2 from the 201st."""


@st.composite
def tiered_tariffs(draw: st.DrawFn) -> Tariff:
    first = draw(tariffs)
    edges = sorted(draw(st.sets(st.integers(1, 10**7), max_size=3)))
    later = draw(
        st.lists(
            st.builds(Prices, prices, prices, st.none() | prices, prices, prices),
            min_size=len(edges),
            max_size=len(edges),
        )
    )
    return replace(
        first,
        tiers=tuple(Tier(edge, each) for edge, each in zip(edges, later, strict=True)),
        volume=draw(st.sampled_from(["tokens", "pictures", "calls"])),
    )


volumes = st.integers(0, 2 * 10**7)


@pytest.mark.parametrize(
    ("before", "micros"), [(0, 80), (90, 80), (91, 76), (99, 44), (100, 40), (190, 40), (195, 30), (200, 20), (999, 20)]
)
def test_tokens_are_split_at_the_edge_of_a_tier(before: int, micros: int) -> None:
    assert HALVES.cost_micros(UsageReport(input_tokens=10), before) == micros
    assert HALVES.cost_micros(UsageReport(input_tokens=6, output_tokens=4), before) == micros
    assert HALVES.cost_micros(UsageReport(output_tokens=10), before) == micros


def test_answer_across_several_tiers_is_split_at_each() -> None:
    assert HALVES.cost_micros(UsageReport(input_tokens=300)) == 800 + 400 + 200
    assert HALVES.cost_micros(UsageReport(input_tokens=300), 50) == 400 + 400 + 300


def test_cached_tokens_come_first_then_the_other_input_then_the_output() -> None:
    tariff = Tariff(1_000_000, 100_000_000, 10_000_000, tiers=(Tier(10, Prices(2_000_000, 200_000_000, 20_000_000)),))
    usage = UsageReport(input_tokens=9, cached_tokens=5, output_tokens=3)
    assert tariff.cost_micros(usage) == 5 * 10 + 4 * 1 + 1 * 100 + 2 * 200
    assert tariff.cost_micros(usage, 3) == 5 * 10 + 2 * 1 + 2 * 2 + 3 * 200
    assert tariff.cost_micros(usage, 7) == 3 * 10 + 2 * 20 + 4 * 2 + 3 * 200


def test_tier_without_a_price_of_cached_tokens_takes_its_own_of_input() -> None:
    tariff = Tariff(8_000_000, cached_per_million=1_000_000, tiers=(Tier(10, Prices(4_000_000)),))
    assert tariff.cost_micros(UsageReport(input_tokens=4, cached_tokens=2), 9) == 1 + 4 + 2 * 4


def test_pictures_and_the_call_are_paid_at_the_prices_of_the_first_token() -> None:
    tariff = Tariff(1_000_000, per_image=30, per_call=7, tiers=(Tier(10, Prices(2_000_000, per_image=3, per_call=1)),))
    usage = UsageReport(input_tokens=4, image_count=2)
    assert tariff.cost_micros(usage, 9) == 1 + 3 * 2 + 60 + 7
    assert tariff.cost_micros(usage, 10) == 8 + 6 + 1


def test_pictures_are_split_where_they_are_counted_and_the_rest_has_the_first_ones_prices() -> None:
    tariff = Tariff(
        1_000_000, per_image=30, per_call=7, tiers=(Tier(10, Prices(2_000_000, per_image=3)),), volume="pictures"
    )
    usage = UsageReport(input_tokens=100, image_count=4)
    assert tariff.cost_micros(usage, 8) == 2 * 30 + 2 * 3 + 100 + 7
    assert tariff.cost_micros(usage, 10) == 4 * 3 + 200
    assert tariff.cost_micros(UsageReport(input_tokens=100), 10) == 200


@pytest.mark.parametrize(("before", "micros"), [(0, 7), (1, 7), (2, 4), (3, 4), (4, 1), (100, 1)])
def test_calls_have_the_price_of_their_place(before: int, micros: int) -> None:
    tariff = Tariff(per_call=7, tiers=(Tier(2, Prices(per_call=4)), Tier(4, Prices(per_call=1))), volume="calls")
    assert tariff.cost_micros(UsageReport(input_tokens=5, image_count=3), before) == micros


@pytest.mark.parametrize(("volume", "units"), [("tokens", 12), ("pictures", 3), ("calls", 1)])
def test_volume_is_counted_in_the_unit_of_the_tariff(volume: VolumeUnit, units: int) -> None:
    assert Tariff(volume=volume).units(UsageReport(input_tokens=7, output_tokens=5, image_count=3)) == units
    assert Tariff(volume="calls").units(UsageReport()) == 1


@given(tariffs, usages, volumes)
def test_volume_changes_nothing_without_tiers(tariff: Tariff, usage: UsageReport, before: int) -> None:
    assert tariff.cost_micros(usage, before) == tariff.cost_micros(usage) <= tariff.most_micros(usage)


@given(tariffs, usages, st.integers(1, 10**7), volumes, st.sampled_from(["tokens", "pictures", "calls"]))
def test_tier_of_the_same_prices_changes_nothing(
    tariff: Tariff, usage: UsageReport, edge: int, before: int, volume: VolumeUnit
) -> None:
    same = Prices(*(getattr(tariff, name) for name in Prices.__slots__))
    assert replace(tariff, tiers=(Tier(edge, same),), volume=volume).cost_micros(usage, before) == tariff.cost_micros(
        usage
    )


@given(tiered_tariffs(), usages, volumes)
def test_no_volume_makes_an_answer_dearer_than_the_most_it_can_cost(
    tariff: Tariff, usage: UsageReport, before: int
) -> None:
    assert 0 <= tariff.cost_micros(usage, before) <= tariff.most_micros(usage)


def test_most_that_an_answer_can_cost_holds_where_its_halves_are_dear_in_different_tiers() -> None:
    tariff = Tariff(10_000_000, 1_000_000, tiers=(Tier(100, Prices(1_000_000, 10_000_000)),))
    usage = UsageReport(input_tokens=100, output_tokens=100)
    assert tariff.cost_micros(usage) == 2000
    assert tariff.most_micros(usage) >= 2000


@given(tiered_tariffs(), st.integers(0, 10**6), st.integers(0, 10**6), volumes)
def test_halves_of_an_input_cost_what_the_whole_does_but_for_rounding(
    tariff: Tariff, one: int, other: int, before: int
) -> None:
    """Each is rounded once; the second begins where the first ended."""
    tariff = replace(tariff, volume="tokens", per_call=0, tiers=_without_calls(tariff))
    whole = tariff.cost_micros(UsageReport(input_tokens=one + other), before)
    halves = tariff.cost_micros(UsageReport(input_tokens=one), before)
    halves += tariff.cost_micros(UsageReport(input_tokens=other), before + one)
    assert abs(whole - halves) <= 1


@given(tiered_tariffs(), st.integers(0, 50), st.integers(0, 50), st.integers(0, 100))
def test_halves_of_many_pictures_cost_what_the_whole_does(tariff: Tariff, one: int, other: int, before: int) -> None:
    tariff = replace(tariff, volume="pictures", per_call=0, tiers=_without_calls(tariff))
    whole = tariff.cost_micros(UsageReport(image_count=one + other), before)
    assert whole == tariff.cost_micros(UsageReport(image_count=one), before) + tariff.cost_micros(
        UsageReport(image_count=other), before + one
    )


@given(tiered_tariffs(), usages, volumes)
def test_cost_is_that_of_its_tokens_one_by_one(tariff: Tariff, usage: UsageReport, before: int) -> None:
    """Counted the slow way, a token after the other, of a request small enough."""
    tariff = replace(tariff, volume="tokens", tiers=tuple(Tier(t.from_units % 90 + 1, t.prices) for t in tariff.tiers))
    tariff = replace(tariff, tiers=tuple({tier.from_units: tier for tier in sorted(tariff.tiers, key=_edge)}.values()))
    before, counts = before % 100, [usage.cached_tokens % 30, usage.input_tokens % 30, usage.output_tokens % 30]
    cached, others, output = counts
    small = UsageReport(input_tokens=cached + others, cached_tokens=cached, output_tokens=output)
    scaled, at = 0, before
    for count, name in zip(counts, ("cached_per_million", "input_per_million", "output_per_million"), strict=True):
        for _ in range(count):
            scaled += _price(tariff, at, name)
            at += 1
    expected = (scaled + 500_000) // 1_000_000 + _price(tariff, before, "per_call")
    assert tariff.cost_micros(small, before) == expected


def _edge(tier: Tier) -> int:
    return tier.from_units


def _price(tariff: Tariff, at: int, name: str) -> int:
    reached = [tariff, *(tier.prices for tier in tariff.tiers if tier.from_units <= at)][-1]
    price: int | None = getattr(reached, name)
    return reached.input_per_million if price is None else price


def _without_calls(tariff: Tariff) -> tuple[Tier, ...]:
    return tuple(Tier(tier.from_units, replace(tier.prices, per_call=0)) for tier in tariff.tiers)
