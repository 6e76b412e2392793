"""A cloud's bill beside what was booked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from app.accounts import reconcile
from app.accounts.bills import Bill
from app.accounts.reconcile import Difference, Reconciler, Reconciliation, add_ours
from app.accounts.reports import AskedOnce, Reports

NOON = datetime(2026, 11, 28, 12).astimezone().timestamp()
DAY_S = 86_400


def asked(name: str | None, micros: int, *, days: float = 0, unpriced: bool = False, number: int = 1) -> AskedOnce:
    """One of ours, some days after the 28th."""
    at = NOON + days * DAY_S
    day = datetime.fromtimestamp(at).astimezone().date().isoformat()
    return AskedOnce(f"our-{name or at}", number, at, day, name, micros, unpriced)


def bill(*lines: str, head: str = "request_id,amount") -> Bill:
    return Bill.read("\n".join([head, *lines]).encode())


def compared(bill_: Bill, *ours: AskedOnce) -> Reconciliation:
    reconciler = Reconciler(bill_)
    reconciler.add(ours)
    return reconciler.result()


class FakeReports(Reports):
    """The times that one backend was asked."""

    def __init__(self, *ours: AskedOnce) -> None:
        self.ours = sorted(ours, key=lambda each: (each.started_at, each.request_id, each.number))

    async def asked(
        self, backend: str, *, since: float, until: float | None, limit: int, after: AskedOnce | None = None
    ) -> Sequence[AskedOnce]:
        assert backend == "qwen"
        rest = self.ours[self.ours.index(after) + 1 :] if after else self.ours
        return [each for each in rest if since <= each.started_at and (until is None or each.started_at < until)][
            :limit
        ]


async def reconciled(reports: Reports, bill_: Bill, **period: float | None) -> Reconciliation:
    reconciler = Reconciler(bill_)
    await add_ours(reconciler, reports, "qwen", **period)
    return reconciler.result()


def names(differences: Sequence[Difference]) -> list[str]:
    return [difference.name for difference in differences]


def test_bill_that_agrees_has_no_drift() -> None:
    result = compared(bill("a,0.000100", "b,1"), asked("a", 100), asked("b", 1_000_000))
    assert (result.by, result.lines, result.matched, result.drift_micros) == ("request", 2, 2, 0)
    assert not any((result.dearer, result.cheaper, result.missing_in_bill, result.missing_in_ledger, result.doubled))
    assert (result.bill_micros, result.booked_micros) == (1_000_100, 1_000_100)


def test_lines_that_are_dearer_and_cheaper_say_by_how_much() -> None:
    result = compared(bill("a,0.000150", "b,0.000010"), asked("a", 100), asked("b", 40))
    [dearer], [cheaper] = result.dearer, result.cheaper
    assert (dearer.name, dearer.drift_micros, dearer.request_ids, dearer.line_numbers) == ("a", 50, ("our-a",), (2,))
    assert (cheaper.name, cheaper.drift_micros) == ("b", -30)
    assert (result.matched, result.drift_micros) == (0, 20)


def test_what_only_one_side_knows_is_told() -> None:
    result = compared(bill("a,0.000150"), asked("b", 40))
    assert names(result.missing_in_ledger) == ["a"]
    assert names(result.missing_in_bill) == ["b"]
    assert result.drift_micros == 110


def test_what_cost_nothing_is_not_missing_in_the_bill() -> None:
    assert compared(bill("a,0.000150"), asked("a", 150), asked("b", 0)).missing_in_bill == ()


def test_what_had_no_tariff_is_missing_and_counted() -> None:
    result = compared(bill("a,0.000150"), asked("a", 0, unpriced=True), asked("b", 0, unpriced=True))
    assert (result.dearer[0].unpriced, names(result.missing_in_bill), result.unpriced) == (True, ["b"], 2)


def test_what_has_no_id_of_the_cloud_stands_apart_and_counts_in_the_sum() -> None:
    result = compared(bill("a,0.000150"), asked("a", 150), asked(None, 70), asked(None, 0, days=1))
    assert (len(result.unidentified), result.unidentified[0].booked_micros) == (1, 70)
    assert (result.missing_in_bill, result.drift_micros) == ((), -70)


def test_lines_of_parts_of_a_request_are_added_up() -> None:
    result = compared(bill("a,0.000100,input", "a,0.000050,output", head="id,amount,item"), asked("a", 150))
    assert (result.matched, result.doubled, result.drift_micros) == (1, (), 0)


@pytest.mark.parametrize("lines", [["a,0.000150,1", "a,0.000150,2"], ["a,0.000100,1", "a,0.000100,1"]])
def test_line_that_stands_twice_is_told_and_is_in_the_drift(lines: list[str]) -> None:
    result = compared(bill(*lines, head="id,amount,serial"), asked("a", 150))
    assert [line.number for line in result.doubled] == [3]
    assert result.drift_micros == result.bill_micros - 150 > 0


def test_steps_of_a_request_under_one_id_are_added_up() -> None:
    two = asked("a", 100), replace(asked("a", 50), number=2)
    result = compared(bill("a,0.000150"), *two)
    assert (result.matched, result.dearer) == (1, ())


def test_line_without_an_id_among_others_is_missing_in_the_ledger() -> None:
    result = compared(bill("a,0.000100", ",0.5"), asked("a", 100))
    assert (names(result.missing_in_ledger), result.missing_in_ledger[0].line_numbers) == (["line 3"], (3,))


def test_bill_without_ids_is_compared_by_day() -> None:
    by_day = bill("2026-11-28,0.000100", "2026-11-28,0.000050", "2026-11-29,1", head="date,amount")
    result = compared(by_day, asked("a", 100), asked("b", 50), asked("c", 7, days=1), asked("d", 9, days=2))
    assert (result.by, result.matched, result.doubled) == ("day", 1, ())
    assert names(result.dearer) == ["2026-11-29"]
    assert names(result.missing_in_bill) == ["2026-11-30"]


def test_rounded_amounts_are_counted() -> None:
    assert compared(bill("a,0.0001004"), asked("a", 100)).rounded == 1


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "_PAGE", 2)


@pytest.mark.usefixtures("small_pages")
async def test_days_of_a_bill_are_the_period_and_its_ids_are_found_a_day_beside() -> None:
    reports = FakeReports(
        asked("long ago", 1, days=-3), asked("before", 1, days=-1), asked("named", 1, days=-1), asked("a", 1),
        asked("unknown", 1), asked("after", 1, days=1),
    )  # fmt: skip
    of_the_28th = bill("a,0.000001,2026-11-28", "named,0.000001,2026-11-28", head="id,amount,date")
    result = await reconciled(reports, of_the_28th)
    assert (result.matched, names(result.missing_in_bill)) == (2, ["unknown"])


@pytest.mark.usefixtures("small_pages")
async def test_bill_without_days_reaches_from_the_first_to_the_last_request_that_it_names() -> None:
    reports = FakeReports(
        asked("before", 1, days=-1), asked("a", 1), asked("between", 1, days=1), asked("b", 1, days=2),
        asked("after", 1, days=3),
    )  # fmt: skip
    result = await reconciled(reports, bill("a,0.000001", "b,0.000001"))
    assert (result.matched, names(result.missing_in_bill)) == (2, ["between"])


async def test_bill_that_names_none_of_ours_is_missing_as_a_whole() -> None:
    result = await reconciled(FakeReports(asked("a", 1)), bill("x,1"))
    assert (names(result.missing_in_ledger), result.missing_in_bill, result.booked_micros) == (["x"], (), 0)


@pytest.mark.parametrize(
    ("since", "until", "missing"), [(NOON, None, ["b", "c"]), (None, NOON + 2, ["a", "b"]), (NOON, NOON + 2, ["b"])]
)
async def test_period_that_was_asked_for_wins(since: float | None, until: float | None, missing: list[str]) -> None:
    reports = FakeReports(asked("a", 1, days=-1), asked("b", 1), asked("c", 1, days=1))
    result = await reconciled(reports, bill("x,1"), since=since, until=until)
    assert names(result.missing_in_bill) == missing
