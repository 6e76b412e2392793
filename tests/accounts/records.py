"""Rows and stores for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.accounts.balances import Balance, Budget
from app.accounts.interfaces import AttemptRow, HeldKey, KeyRecord, KeyStore, LedgerRow

_ROW = LedgerRow(
    request_id="request-1",
    started_at=1_763_600_000.25,
    key_id="key_000000000001",
    model="qwen-vl-vision",
    backend="qwen",
    backend_model="qwen-vl-plus",
    backend_request_id="chatcmpl-1",
    stream=True,
    input_tokens=1000,
    output_tokens=200,
    cached_tokens=10,
    reasoning_tokens=5,
    image_count=1,
    usage_source="upstream",
    tariff='{"input_per_million":1}',
    cost_micros=6_400,
    first_event_ms=120,
    total_ms=900,
    outcome="finished",
)


_ATTEMPT = AttemptRow(
    number=1,
    model="qwen-vl-vision",
    backend="qwen",
    backend_model="qwen-vl-plus",
    backend_request_id="chatcmpl-1",
    input_tokens=1000,
    output_tokens=200,
    cached_tokens=10,
    reasoning_tokens=5,
    image_count=1,
    usage_source="upstream",
    tariff='{"input_per_million":1}',
    cost_micros=6_400,
    total_ms=880,
    outcome="finished",
)


def an_attempt(**changes: Any) -> AttemptRow:
    """An attempt like any other, but for what the test is about."""
    return replace(_ATTEMPT, **changes)


def a_row(**changes: Any) -> LedgerRow:
    """A ledger row like any other, but for what the test is about."""
    return replace(_ROW, **changes)


class FakeKeyStore(KeyStore):
    """Keys in a dict, that counts how often it was asked."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}
        self.balances: dict[str, Balance] = {}
        self.questions = 0

    async def key_by_digest(self, digest: str) -> HeldKey | None:
        self.questions += 1
        return self._held(self.records.get(digest))

    async def key_by_id(self, key_id: str) -> HeldKey | None:
        self.questions += 1
        return self._held(self._of_id(key_id))

    def _of_id(self, key_id: str) -> KeyRecord | None:
        return next((record for record in self.records.values() if record.id == key_id), None)

    def _held(self, record: KeyRecord | None) -> HeldKey | None:
        return None if record is None else HeldKey(record, self.balances[record.id])

    async def add_key(self, record: KeyRecord, budget: Budget = Budget()) -> None:  # noqa: B008 - frozen
        self.records[record.digest] = record
        self.balances[record.id] = Balance(record.id, budget)

    async def add_first_key(self, record: KeyRecord) -> bool:
        if self.records:
            return False
        await self.add_key(record)
        return True

    async def keys(self) -> list[KeyRecord]:
        return list(self.records.values())

    async def change_key(self, key_id: str, changes: Mapping[str, Any], bounds: Mapping[str, int | None]) -> bool:
        record = self._of_id(key_id)
        if record is None or record.revoked_at is not None:
            return False
        self.records[record.digest] = replace(record, **changes)
        balance = self.balances[key_id]
        self.balances[key_id] = replace(balance, budget=replace(balance.budget, **bounds))
        return True

    async def revoke_key(self, key_id: str, revoked_at: float) -> bool:
        for digest, record in self.records.items():
            if record.id == key_id and record.revoked_at is None:
                self.records[digest] = replace(record, revoked_at=revoked_at)
                return True
        return False

    async def renew_vendor_secret(self, key_id: str) -> int | None:
        record = self._of_id(key_id)
        if record is None or record.revoked_at is not None:
            return None
        self.records[record.digest] = replace(record, vendor_version=record.vendor_version + 1)
        return record.vendor_version + 1
