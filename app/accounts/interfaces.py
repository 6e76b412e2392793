"""What the rest of the gateway asks of the stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from app.core.events import UsageSource

Outcome: TypeAlias = Literal["finished", "failed", "gone"]
UsageGrouping: TypeAlias = Literal["day", "model", "key"]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored. The key itself is shown once, at creation, and kept nowhere.

    Args:
        id: public, as `key_3f9c…`; ledger rows carry it.
        digest: keyed digest of the secret, hexadecimal.
        created_at, revoked_at: Unix time in seconds; `None`: not revoked.
        vendor_version: which of the secrets derived for the vendors' own APIs is good; a new one retires the last.
    """

    id: str
    name: str
    digest: str
    admin: bool
    created_at: float
    revoked_at: float | None = None
    vendor_version: int = 1


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, once the key was checked."""

    key_id: str
    name: str
    admin: bool


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One backend that was asked for a request: a route tried, or a step of a recipe.

    Args:
        number: from 1, in the order they were asked.
        model: of the catalogue; of a recipe's step, the one that took this step.
        tariff, cost_micros: as of a row; a route that failed before its first word costs nothing.
        total_ms: from being asked to its end.
        outcome, error_code: of this attempt; the request may have been answered by another.
    """

    number: int
    model: str
    backend: str
    backend_model: str
    backend_request_id: str | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    image_count: int
    usage_source: UsageSource
    tariff: str
    cost_micros: int
    total_ms: int
    outcome: Outcome
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One request, booked once. Its tokens, pictures and cost are the sums of its attempts.

    Args:
        request_id: ours; booking the same id twice changes nothing.
        started_at: Unix time in seconds.
        model: its id in the catalogue, whichever alias the caller used.
        backend, backend_model: the route that answered; empty if none was reached.
        backend_request_id: the vendor's id of it, for reconciling bills.
        usage_source: the weakest of its attempts.
        tariff: the tariff applied, as JSON text, so that the cost can be checked years later; of several, that of the
            attempt that answered; `null`: none was known of something that was used.
        cost_micros: what is known of it.
        first_event_ms: from the request's arrival to the backend's first event; `None` if none came.
        outcome: `finished`; `failed` (refused, or the backend broke); `gone` (the caller left before the end).
        error_code: OpenAI's code of the failure.
        attempts: all backends that were asked, in order; none of rows older than this table.
    """

    request_id: str
    started_at: float
    key_id: str
    model: str
    backend: str
    backend_model: str
    backend_request_id: str | None
    stream: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    image_count: int
    usage_source: UsageSource
    tariff: str
    cost_micros: int
    first_event_ms: int | None
    total_ms: int
    outcome: Outcome
    error_code: str | None = None
    attempts: tuple[AttemptRow, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Ledger rows added up.

    Args:
        group: a day (`2026-11-20`, local time), a model id, or a key id with its name.
        failed: how many of the requests failed; a caller who left is no failure.
        unpriced: how many used something of a model without a tariff; what that cost is unknown and not in the sum.
    """

    group: str
    requests: int
    failed: int
    input_tokens: int
    output_tokens: int
    image_count: int
    cost_micros: int
    unpriced: int = 0


class KeyStore(Protocol):
    """Keys, by digest."""

    async def key_by_digest(self, digest: str) -> KeyRecord | None:
        """The key with this digest, revoked or not."""
        ...

    async def key_by_id(self, key_id: str) -> KeyRecord | None:
        """The key with this id, revoked or not."""
        ...

    async def add_key(self, record: KeyRecord) -> None:
        """Stores a new key."""
        ...

    async def add_first_key(self, record: KeyRecord) -> bool:
        """Stores a key if there is none of any sort, in one step; False if there is one, revoked or not."""
        ...

    async def keys(self) -> Sequence[KeyRecord]:
        """All keys, oldest first, revoked ones included."""
        ...

    async def revoke_key(self, key_id: str, revoked_at: float) -> bool:
        """Revokes a key; False if there is none of this id, or it was revoked before."""
        ...

    async def renew_vendor_secret(self, key_id: str) -> int | None:
        """Goes on to the key's next vendor version; the version, or `None` if there is no such key that is live."""
        ...


class Ledger(Protocol):
    """The rows that say what was used."""

    async def settle(self, row: LedgerRow) -> None:
        """Books a request; returns once the row and its attempts are durable, together or not at all. A second row of
        the same request id changes nothing."""
        ...

    async def rows(self, *, since: float, limit: int) -> Sequence[LedgerRow]:
        """The newest rows from `since` (Unix seconds) on, newest first."""
        ...

    async def summary(self, by: UsageGrouping, *, since: float) -> Sequence[UsageSummary]:
        """Rows from `since` on, added up per group, in the order of the group."""
        ...
