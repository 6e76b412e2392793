"""A gateway that asks nobody for a key and books nothing."""

from __future__ import annotations

from app.accounts.details import Detail, NoDetails
from app.accounts.interfaces import HoldOrder
from app.accounts.open_access import EVERYONE, NoLedger, OpenDoor
from tests.accounts.records import a_row


async def test_everyone_comes_in_with_any_key_or_none() -> None:
    assert await OpenDoor().caller(None) is await OpenDoor().caller("sk-anything") is EVERYONE
    assert not EVERYONE.admin
    assert not EVERYONE.budgeted


async def test_ledger_that_keeps_nothing_carries_everything() -> None:
    ledger, row = NoLedger(), a_row()
    assert await ledger.hold(HoldOrder(row, 10**15)) is None
    await ledger.note([row])
    assert await ledger.settle(row) is row
    assert (await ledger.expire(0.0), await ledger.replay()) == (0, 0)


async def test_details_that_nobody_keeps_are_not_there() -> None:
    details = NoDetails()
    details.add(Detail("r", 0.0, "", "m", "refused"))
    assert await details.detail("r") is None
    assert await details.forget(1e12) == 0
