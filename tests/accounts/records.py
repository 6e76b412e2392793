"""Rows and stores for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.accounts.interfaces import AttemptRow, KeyRecord, LedgerRow

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


class FakeKeyStore:
    """Keys in a dict, that counts how often it was asked."""

    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}
        self.questions = 0

    async def key_by_digest(self, digest: str) -> KeyRecord | None:
        self.questions += 1
        return self.records.get(digest)

    async def key_by_id(self, key_id: str) -> KeyRecord | None:
        self.questions += 1
        return next((record for record in self.records.values() if record.id == key_id), None)

    async def add_key(self, record: KeyRecord) -> None:
        self.records[record.digest] = record

    async def add_first_key(self, record: KeyRecord) -> bool:
        if self.records:
            return False
        await self.add_key(record)
        return True

    async def keys(self) -> list[KeyRecord]:
        return list(self.records.values())

    async def revoke_key(self, key_id: str, revoked_at: float) -> bool:
        for digest, record in self.records.items():
            if record.id == key_id and record.revoked_at is None:
                self.records[digest] = replace(record, revoked_at=revoked_at)
                return True
        return False

    async def renew_vendor_secret(self, key_id: str) -> int | None:
        record = await self.key_by_id(key_id)
        if record is None or record.revoked_at is not None:
            return None
        self.records[record.digest] = replace(record, vendor_version=record.vendor_version + 1)
        return record.vendor_version + 1
