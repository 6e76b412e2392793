"""What the rest of the gateway asks of the stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from app.accounts.balances import Balance, Budget, BudgetSpan
from app.core.events import UsageSource
from app.core.limits import NO_LIMITS, Limits

RowState: TypeAlias = Literal["held", "dispatched", "settled", "released", "expired"]
"""held: money is set aside, nobody was asked yet. dispatched: a backend was asked and may bill us. Then it is closed:
settled (something was to be paid, or the answer was free), released (nothing was), expired (its gateway died; booked
was what it had last noted)."""

OPEN_STATES: tuple[RowState, ...] = ("held", "dispatched")

Outcome: TypeAlias = Literal["running", "finished", "failed", "gone", "lost"]
UsageGrouping: TypeAlias = Literal["day", "model", "key", "backend"]


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored. The key itself is shown once, at creation, and kept nowhere.

    Args:
        id: public, as `key_3f9c…`; ledger rows carry it.
        digest: keyed digest of the secret, hexadecimal.
        created_at, revoked_at: Unix time in seconds; `None`: not revoked.
        vendor_version: which of the secrets derived for the vendors' own APIs is good; a new one retires the last.
        owner: who answers for it; free text.
        models: ids and aliases it may ask, `*` at an end standing for all that begin so; empty: all.
        tags: free text, for reports.
        expires_at: Unix time in seconds from which on it opens nothing; `None`: never.
        limits: of all its requests together. model_limits: of those to one model, by the model's id.
        log_content: whether what it asks, and what it is answered, may be logged.
    """

    id: str
    name: str
    digest: str
    admin: bool
    created_at: float
    revoked_at: float | None = None
    vendor_version: int = 1
    owner: str = ""
    models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    expires_at: float | None = None
    limits: Limits = NO_LIMITS
    model_limits: Mapping[str, Limits] = field(default_factory=dict)
    log_content: bool = False


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key and where it stands, seen at the same moment."""

    record: KeyRecord
    balance: Balance


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, once the key was checked.

    Args:
        models, limits, model_limits, log_content: as of its `KeyRecord`.
        budgeted: whether any bound is set on what it may spend.
        left_micros: what it could still set aside when it was looked up; `None`: it has no bound.
    """

    key_id: str
    name: str
    admin: bool
    models: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    model_limits: Mapping[str, Limits] = field(default_factory=dict)
    budgeted: bool = False
    left_micros: int | None = None
    log_content: bool = False

    def may_ask(self, *names: str) -> bool:
        """Whether its key is for a model.

        Args:
            names: those the model goes by: its id, and the alias that was asked for; one on the key's list is enough.
        """
        return not self.models or any(_covers(entry, name) for entry in self.models for name in names)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One backend that was asked for a request: a route tried, or a step of a recipe.

    Args:
        number: from 1, in the order they were asked.
        model: of the catalogue; of a recipe's step, the one that took this step.
        tariff, cost_micros: as of a row; a route that failed before its first word costs nothing.
        total_ms: from being asked to its end.
        outcome, error_code: of this attempt; the request may have been answered by another. `running` while it runs:
            then its numbers are what would be booked if the gateway died now.
        volume_before: of a tariff with tiers, what the key had used of the model that month before this, in the
            tariff's unit; with it the cost can be checked years later.
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
    volume_before: int = 0


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One request, booked once. Its tokens, pictures and cost are the sums of its attempts.

    Args:
        request_id: ours; settling the same id twice changes nothing.
        started_at: Unix time in seconds.
        model: its id in the catalogue, whichever alias the caller used.
        backend, backend_model: the route that answered; empty if none was reached.
        backend_request_id: the vendor's id of it, for reconciling bills.
        usage_source: the weakest of its attempts.
        tariff: the tariff applied, as JSON text, so that the cost can be checked years later; of several, that of the
            attempt that answered; `null`: none was known of something that was used.
        cost_micros: what is known of it.
        first_event_ms: from the request's arrival to the backend's first event; `None` if none came.
        outcome: `finished`; `failed` (refused, or the backend broke); `gone` (the caller left before the end); `lost`
            (the gateway died); `running` while it is open: then its numbers are what would be booked if it died now.
        error_code: OpenAI's code of the failure.
        hold_micros: set aside for it; 0 once it is closed.
        day: on whose budget it counts, as `2026-11-28`.
        lease_until: while it is open: Unix time from which on anybody may close it as expired. Its gateway keeps
            pushing this on.
        queued_ms: how long it waited for backends that had no room.
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
    state: RowState = "settled"
    hold_micros: int = 0
    day: str = ""
    lease_until: float | None = None
    queued_ms: int = 0
    attempts: tuple[AttemptRow, ...] = ()


@dataclass(frozen=True, slots=True)
class HoldOrder:
    """Money to be set aside before a backend is asked.

    Args:
        row: the request as it stands, its newest attempt last; `hold_micros` counts this order in.
        micros: how much more.
    """

    row: LedgerRow
    micros: int


@dataclass(frozen=True, slots=True)
class HoldRefusal:
    """The balance does not carry it.

    Args:
        span: of the bound that does not.
        left_micros: what that key could still set aside.
    """

    span: BudgetSpan
    left_micros: int


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Ledger rows added up.

    Args:
        group: a day (`2026-11-20`, local time), a model id, a key id with its name, or a backend.
        requests: of a backend, how often it was asked.
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


def _covers(entry: str, name: str) -> bool:
    return name.startswith(entry[:-1]) if entry.endswith("*") else name == entry


class KeyStore(Protocol):
    """Keys, by digest."""

    async def key_by_digest(self, digest: str) -> HeldKey | None:
        """The key with this digest, revoked or not. Those who ask for one at the same time may share an answer, but
        none that was asked for more than half a second ago."""
        ...

    async def key_by_id(self, key_id: str) -> HeldKey | None:
        """The key with this id, revoked or not; shared as above."""
        ...

    async def add_key(self, record: KeyRecord, budget: Budget = Budget()) -> None:  # noqa: B008 - frozen
        """Stores a new key and what it may spend."""
        ...

    async def add_first_key(self, record: KeyRecord) -> bool:
        """Stores a key if there is none of any sort, in one step; False if there is one, revoked or not."""
        ...

    async def keys(self) -> Sequence[KeyRecord]:
        """All keys, oldest first, revoked ones included."""
        ...

    async def change_key(self, key_id: str, changes: Mapping[str, Any], bounds: Mapping[str, int | None]) -> bool:
        """Changes a key that is live; False if there is none of this id.

        Args:
            changes: fields of `KeyRecord` that an operator chooses, and of its `Limits` by their own names.
            bounds: fields of `Budget`; `None` lifts the bound.
        """
        ...

    async def revoke_key(self, key_id: str, revoked_at: float) -> bool:
        """Revokes a key; False if there is none of this id, or it was revoked before."""
        ...

    async def renew_vendor_secret(self, key_id: str) -> int | None:
        """Goes on to the key's next vendor version; the version, or `None` if there is no such key that is live."""
        ...


class CallerSource(Protocol):
    """Says who asks."""

    async def caller(self, presented: str | None) -> Caller:
        """Who presents this key.

        Args:
            presented: the key as it came, without `Bearer`; `None` if none came.

        Raises:
            AuthenticationFailed: it opens nothing.
            RecordsUnavailable: nobody can say.
        """
        ...


class Ledger(Protocol):
    """The rows that say what was used. A request's calls come one after the other: `hold` for each attempt, `note`
    whenever something changed that must outlive us, `settle` at its end.

    Raises, all of them:
        RecordsUnavailable: the database cannot be reached; nothing was changed.
    """

    async def hold(self, order: HoldOrder) -> HoldRefusal | None:
        """Sets money aside and stores the row as it stands, together or not at all; durable when it returns."""
        ...

    async def note(self, rows: Sequence[LedgerRow]) -> None:
        """Stores open rows as they stand; those that were closed meanwhile stay closed."""
        ...

    async def settle(self, row: LedgerRow) -> LedgerRow:
        """Closes a request: books what it cost, gives the rest of its hold back; durable when it returns, with its
        attempts or not at all. Of a row settled before nothing changes; one closed as expired is put right.

        Returns:
            The row as booked: tiers by volume are applied here, where the volume is known.
        """
        ...

    async def expire(self, now: float) -> int:
        """Closes open rows whose lease ran out, as they last stood; how many."""
        ...

    async def replay(self) -> int:
        """Books the rows that had to wait while the database was away; how many."""
        ...
