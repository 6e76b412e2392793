"""A cloud's bill beside what we booked: by the cloud's request ids, or by days where the bill has no ids.

Ours are the times that the backend was asked. All amounts are micro-yuan; a drift is the bill less what we booked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf, nextafter
from typing import Literal, TypeAlias

from app.accounts.bills import Bill, BillLine
from app.accounts.periods import end_of, start_of
from app.accounts.reports import AskedOnce, Reports

ReconciledBy: TypeAlias = Literal["request", "day"]
_PAGE = 1_000
_SLACK_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where bill and ledger disagree.

    Args:
        name: the cloud's request id, or the day.
        request_ids: of ours; empty: none of them is ours.
        line_numbers: of the bill; empty: it does not know it.
        unpriced: we booked no cost, for want of a tariff.
    """

    name: str
    bill_micros: int
    booked_micros: int
    request_ids: tuple[str, ...] = ()
    line_numbers: tuple[int, ...] = ()
    unpriced: bool = False

    @property
    def drift_micros(self) -> int:
        return self.bill_micros - self.booked_micros


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What came out.

    Args:
        by: what was compared.
        matched: how many requests, or days, agree to the micro-yuan.
        dearer, cheaper: those for which the cloud wants more, or less, than we booked.
        missing_in_ledger: those of the bill that we know nothing of; by day: on which we booked nothing.
        missing_in_bill: those of ours, in the bill's period, that were to be paid and that it does not know.
        unidentified: of ours, those that were to be paid and have no id of the cloud; not in the other lists.
        doubled: lines that stand in the bill again; their amounts are in the drift.
        rounded: how many amounts of the bill were finer than a micro-yuan; each was rounded half up.
        unpriced: how many times the backend was asked without a tariff: we booked 0 for them.
    """

    by: ReconciledBy
    lines: int
    matched: int
    dearer: tuple[Difference, ...]
    cheaper: tuple[Difference, ...]
    missing_in_ledger: tuple[Difference, ...]
    missing_in_bill: tuple[Difference, ...]
    unidentified: tuple[Difference, ...]
    doubled: tuple[BillLine, ...]
    rounded: int
    unpriced: int
    bill_micros: int
    booked_micros: int

    @property
    def drift_micros(self) -> int:
        """The bill less what we booked."""
        return self.bill_micros - self.booked_micros


DIFFERENCES = ("dearer", "cheaper", "missing_in_ledger", "missing_in_bill", "unidentified")
"""The lists of a `Reconciliation` that hold differences."""


class Reconciler:
    """Compares a bill with the times a backend was asked, given piece by piece."""

    def __init__(self, bill: Bill) -> None:
        self.bill = bill
        self.by: ReconciledBy = "request" if any(line.request_id for line in bill.lines) else "day"
        self._lines: dict[str, list[BillLine]] = defaultdict(list)
        for line in bill.lines:
            self._lines[self._name_of(line)].append(line)
        self._ours: dict[str, list[AskedOnce]] = defaultdict(list)
        self._unidentified: list[AskedOnce] = []

    def _name_of(self, line: BillLine) -> str:
        """A line without an id has none of ours; it is told by its place."""
        name = line.request_id if self.by == "request" else line.day
        return name or f"line {line.number}"

    def knows(self, asked: AskedOnce) -> bool:
        """Whether the bill has a line of its name."""
        return (asked.backend_request_id if self.by == "request" else asked.day) in self._lines

    def add(self, asked: Iterable[AskedOnce]) -> None:
        """Takes some of the times that the backend was asked, each once."""
        for each in asked:
            name = each.backend_request_id if self.by == "request" else each.day
            if name and (name in self._lines or each.billable):
                self._ours[name].append(each)
            elif each.billable:
                self._unidentified.append(each)

    def result(self) -> Reconciliation:
        """What came out, of all that was given."""
        names = sorted(self._lines.keys() | self._ours.keys())
        each = [self._difference(name) for name in names]
        both = [entry for entry in each if entry.line_numbers and entry.request_ids]
        unidentified = tuple(_difference(ours.request_id, (), [ours]) for ours in self._unidentified)
        return Reconciliation(
            by=self.by,
            lines=len(self.bill.lines),
            matched=sum(entry.drift_micros == 0 for entry in both),
            dearer=tuple(entry for entry in both if entry.drift_micros > 0),
            cheaper=tuple(entry for entry in both if entry.drift_micros < 0),
            missing_in_ledger=tuple(entry for entry in each if not entry.request_ids),
            missing_in_bill=tuple(entry for entry in each if not entry.line_numbers),
            unidentified=unidentified,
            doubled=tuple(line for name in names for line in self._doubled(name)),
            rounded=self.bill.rounded,
            unpriced=sum(ours.unpriced for ours in self._all_ours()),
            bill_micros=sum(line.micros for line in self.bill.lines),
            booked_micros=sum(ours.cost_micros for ours in self._all_ours()),
        )

    def _all_ours(self) -> list[AskedOnce]:
        return [*(ours for named in self._ours.values() for ours in named), *self._unidentified]

    def _difference(self, name: str) -> Difference:
        return _difference(name, self._lines.get(name, ()), self._ours.get(name, ()))

    def _doubled(self, name: str) -> list[BillLine]:
        """Lines of one request that stand again word for word, or that ask once more for all of it; others are parts
        of it, as clouds write input and output on lines of their own."""
        lines = self._lines.get(name, [])
        if self.by == "day" or len(lines) < 2:
            return []
        booked_micros = sum(ours.cost_micros for ours in self._ours.get(name, ()))
        if booked_micros and all(line.micros == booked_micros for line in lines):
            return lines[1:]
        seen: Counter[tuple[str, ...]] = Counter()
        again = []
        for line in lines:
            seen[line.text] += 1
            if seen[line.text] > 1:
                again.append(line)
        return again


async def add_ours(
    reconciler: Reconciler, reports: Reports, backend: str, *, since: float | None = None, until: float | None = None
) -> None:
    """Gives a reconciler the times that a backend was asked.

    Args:
        since, until: Unix times in seconds of what is ours to compare. Unset: the days of the bill; where it has none,
            from the first to the last request that it names.

    Raises:
        RecordsUnavailable: the database cannot be reached.
    """
    if since is None and until is None and reconciler.bill.days is not None:
        first, last = reconciler.bill.days
        now = datetime.now().astimezone()
        start, end = start_of(first, now) - _SLACK_S, end_of(last, now) + _SLACK_S
        async for page in _pages(reports, backend, start, end):
            # a request near midnight may stand in the bill of the day beside
            reconciler.add(each for each in page if first <= each.day <= last or reconciler.knows(each))
        return
    if since is None and until is None:
        since, until = await _named_period(reports, reconciler, backend)
    async for page in _pages(reports, backend, since or 0.0, until):
        reconciler.add(page)


async def _named_period(reports: Reports, reconciler: Reconciler, backend: str) -> tuple[float, float]:
    """From the first to just after the last request of ours that the bill names; empty where it names none."""
    first, last = inf, -inf
    async for page in _pages(reports, backend, 0.0, None):
        named = [each.started_at for each in page if reconciler.knows(each)]
        first, last = min([first, *named]), max([last, *named])
    return first, nextafter(last, inf)


async def _pages(
    reports: Reports, backend: str, since: float, until: float | None
) -> AsyncIterator[Sequence[AskedOnce]]:
    if until is not None and until <= since:
        return
    page = await reports.asked(backend, since=since, until=until, limit=_PAGE)
    while page:
        yield page
        page = await reports.asked(backend, since=since, until=until, limit=_PAGE, after=page[-1])


def _difference(name: str, lines: Sequence[BillLine], ours: Sequence[AskedOnce]) -> Difference:
    return Difference(
        name=name,
        bill_micros=sum(line.micros for line in lines),
        booked_micros=sum(each.cost_micros for each in ours),
        request_ids=tuple(dict.fromkeys(each.request_id for each in ours)),
        line_numbers=tuple(line.number for line in lines),
        unpriced=any(each.unpriced for each in ours),
    )
