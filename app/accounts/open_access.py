"""A gateway that asks nobody for a key and books nothing: absence as objects, so that no step asks whether it is on."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import override

from app.accounts.interfaces import Caller, CallerSource, HoldOrder, HoldRefusal, Ledger, LedgerRow

EVERYONE = Caller("", "everyone", admin=False)


class OpenDoor(CallerSource):
    """Lets everyone in, whatever they present."""

    @override
    async def caller(self, presented: str | None) -> Caller:
        return EVERYONE


class NoLedger(Ledger):
    """Carries everything and keeps nothing."""

    @override
    async def hold(self, order: HoldOrder) -> HoldRefusal | None:
        return None

    @override
    async def note(self, rows: Sequence[LedgerRow]) -> None:
        return None

    @override
    async def settle(self, row: LedgerRow) -> LedgerRow:
        return row

    @override
    async def expire(self, now: float) -> int:
        return 0

    @override
    async def replay(self) -> int:
        return 0
