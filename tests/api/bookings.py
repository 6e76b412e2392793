"""Rows that tests put into the ledger of a gateway that serves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.accounts.interfaces import HoldOrder, LedgerRow
from app.store.sql import SqlStore
from tests.support.server import Served


def book(site: Served, *rows: LedgerRow) -> None:
    """Books requests as if the gateway had answered them."""

    async def settle() -> None:
        store = await SqlStore.open(site.settings.data_dir / "tuwen.db")
        for row in rows:
            if row.hold_micros:
                held = replace(row, state="held", outcome="running")
                assert await store.hold(HoldOrder(held, row.hold_micros)) is None
            await store.settle(row)
        await store.aclose()

    asyncio.run(settle())
