"""What a key may spend, has spent, and has set aside. All amounts are micro-yuan.

A balance is one row per key, so that one conditional statement can refuse what it does not carry. Days and months are
those of the clock on the wall where the gateway runs (TZ). A request counts on the day on which its money was set
aside, though it may end on the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from app.core.errors import InvalidRequest

BudgetSpan: TypeAlias = Literal["total", "day", "month"]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a key may spend. `None`: no bound.

    Args:
        total_micros: ever; top-ups raise it.
        day_micros, month_micros: in one calendar day or month.
    """

    total_micros: int | None = None
    day_micros: int | None = None
    month_micros: int | None = None

    @property
    def bounded(self) -> bool:
        return not (self.total_micros is None and self.day_micros is None and self.month_micros is None)


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a key stands.

    Args:
        budget: its bounds; `total_micros` is the sum of all that was ever credited.
        spent_micros: the cost of all its requests that have ended.
        held_micros: set aside for those that run.
        day: the last day on which it asked for anything, as `2026-11-28`; empty if it never did.
        day_micros, month_micros: spent and set aside on that day, and in its month.
    """

    key_id: str
    budget: Budget = Budget()
    spent_micros: int = 0
    held_micros: int = 0
    day: str = ""
    day_micros: int = 0
    month_micros: int = 0

    def spent_on(self, day: str) -> tuple[int, int]:
        """What it has spent and set aside on a day, and in its month. A day before its last counts as that one."""
        return (
            self.day_micros if self.day >= day else 0,
            self.month_micros if self.day[:7] >= day[:7] else 0,
        )

    def left_micros(self, day: str) -> int | None:
        """What it may still set aside on a day, by its tightest bound; `None` where it has none."""
        spent_today, spent_this_month = self.spent_on(day)
        rooms = (
            (self.budget.total_micros, self.spent_micros + self.held_micros),
            (self.budget.day_micros, spent_today),
            (self.budget.month_micros, spent_this_month),
        )
        return min((bound - used for bound, used in rooms if bound is not None), default=None)

    def exhausted_span(self, day: str, wanted_micros: int) -> BudgetSpan | None:
        """Which bound does not carry an amount; of several the one that lasts longest. `None`: all do."""
        if self.budget.total_micros is not None and (
            self.budget.total_micros - self.spent_micros - self.held_micros < wanted_micros
        ):
            return "total"
        spent_today, spent_this_month = self.spent_on(day)
        if self.budget.month_micros is not None and self.budget.month_micros - spent_this_month < wanted_micros:
            return "month"
        if self.budget.day_micros is not None and self.budget.day_micros - spent_today < wanted_micros:
            return "day"
        return None


@dataclass(frozen=True, slots=True)
class TopUp:
    """Money credited to a key; negative to take some back.

    Args:
        id: crediting the same id twice changes nothing.
        at: Unix time in seconds.
        note: for people: an invoice's number, a reason.
    """

    id: str
    key_id: str
    at: float
    micros: int
    note: str = ""


class Balances(Protocol):
    """Where keys stand."""

    async def balance(self, key_id: str) -> Balance | None:
        """Of one key; `None` if there is no such key."""
        ...

    async def balances(self) -> dict[str, Balance]:
        """Of all keys, by id."""
        ...

    async def top_up(self, credit: TopUp) -> Balance | None:
        """Credits a key once, and gives where it stands then; a key without a total bound gets one with its first
        top-up. `None` if there is no such key."""
        ...

    async def top_ups(self, key_id: str) -> list[TopUp]:
        """What was credited to a key, oldest first."""
        ...


async def credit_once(balances: Balances, credit: TopUp) -> Balance | None:
    """Credits a key, and gives where it stands then; a credit that was made before changes nothing. `None` if there is
    no such key.

    Raises:
        InvalidRequest: another credit has its id.
    """
    balance = await balances.top_up(credit)
    if balance is not None:
        made = next((each for each in await balances.top_ups(credit.key_id) if each.id == credit.id), None)
        if made is None or made.micros != credit.micros:
            raise InvalidRequest("Another top-up has this `id`; nothing was credited. Choose another.", param="id")
    return balance
