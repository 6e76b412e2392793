"""What a key may spend, by the day and the bound that counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.accounts.balances import Balance, Balances, Budget, TopUp, credit_once
from app.core.errors import InvalidRequest

TODAY, TOMORROW, NEXT_MONTH = "2026-11-28", "2026-11-29", "2026-12-01"


def balance(**budget: int) -> Balance:
    """A key that spent 500 in all, 20 of it held; 90 today and 200 this month."""
    return Balance("key_1", Budget(**budget), 480, 20, TODAY, 90, 200)


@pytest.mark.parametrize(
    ("budget", "bounded"),
    [({}, False), ({"total_micros": 0}, True), ({"day_micros": 0}, True), ({"month_micros": 0}, True)],
)
def test_budget_of_any_bound_is_one(budget: dict[str, int], bounded: bool) -> None:
    assert Budget(**budget).bounded is bounded


@pytest.mark.parametrize(
    ("budget", "left_micros"),
    [
        ({}, None),
        ({"total_micros": 1_000}, 500),
        ({"day_micros": 100}, 10),
        ({"month_micros": 1_000}, 800),
        ({"total_micros": 1_000, "day_micros": 100, "month_micros": 1_000}, 10),
        ({"total_micros": 400}, -100),
    ],
)
def test_what_is_left_is_that_of_the_tightest_bound(budget: dict[str, int], left_micros: int | None) -> None:
    assert balance(**budget).left_micros(TODAY) == left_micros


def test_day_and_month_begin_anew_and_the_total_does_not() -> None:
    standing = balance(total_micros=1_000, day_micros=100, month_micros=300)
    assert [standing.left_micros(day) for day in (TODAY, TOMORROW, NEXT_MONTH)] == [10, 100, 100]
    assert [standing.spent_on(day) for day in (TODAY, TOMORROW, NEXT_MONTH)] == [(90, 200), (0, 200), (0, 0)]


def test_day_that_a_slower_clock_names_counts_as_the_newest() -> None:
    assert balance(day_micros=100).left_micros("2026-11-27") == 10


@pytest.mark.parametrize(
    ("budget", "span"),
    [
        ({}, None),
        ({"total_micros": 600, "day_micros": 190, "month_micros": 300}, None),
        ({"total_micros": 599, "day_micros": 0, "month_micros": 0}, "total"),
        ({"total_micros": 600, "day_micros": 0, "month_micros": 299}, "month"),
        ({"total_micros": 600, "day_micros": 189, "month_micros": 300}, "day"),
    ],
)
def test_of_several_exhausted_bounds_the_one_that_lasts_longest_is_named(
    budget: dict[str, int], span: str | None
) -> None:
    assert balance(**budget).exhausted_span(TODAY, 100) == span


def test_exhausted_day_and_month_are_fresh_in_the_next() -> None:
    standing = balance(day_micros=100, month_micros=250)
    spans = [standing.exhausted_span(day, 60) for day in (TODAY, TOMORROW, NEXT_MONTH)]
    assert spans == ["month", "month", None]


class Credited(Balances):
    """The balance of one key, and what was credited to any."""

    def __init__(self) -> None:
        self.made: dict[str, TopUp] = {}
        self.standing = Balance("key_1", Budget(total_micros=0))

    async def top_up(self, credit: TopUp) -> Balance | None:
        if credit.key_id != "key_1":
            return None
        if credit.id not in self.made:
            self.made[credit.id] = credit
            total_micros = (self.standing.budget.total_micros or 0) + credit.micros
            self.standing = replace(self.standing, budget=Budget(total_micros=total_micros))
        return self.standing

    async def top_ups(self, key_id: str) -> list[TopUp]:
        return [credit for credit in self.made.values() if credit.key_id == key_id]


CREDIT = TopUp("order-7", "key_1", 5.0, 100)


async def test_credit_that_is_made_again_changes_nothing() -> None:
    balances = Credited()
    for again in (CREDIT, replace(CREDIT, at=9.0, note="once more")):
        standing = await credit_once(balances, again)
        assert standing is not None
        assert standing.budget.total_micros == 100


async def test_credit_of_no_key_is_none() -> None:
    assert await credit_once(Credited(), replace(CREDIT, key_id="key_0")) is None


@pytest.mark.parametrize("other", [replace(CREDIT, micros=200), replace(CREDIT, key_id="key_2")])
async def test_credit_under_the_id_of_another_is_refused(other: TopUp) -> None:
    balances = Credited()
    balances.made[other.id] = other
    with pytest.raises(InvalidRequest) as caught:
        await credit_once(balances, CREDIT)
    assert caught.value.param == "id"
    assert balances.standing.budget.total_micros == 0
