"""What a request cost, and the ledger row that says so.

Who pays for what:

    finished                the usage the backend reported, else what was counted or estimated
    gone                    what was produced until the caller left
    failed after output     what was delivered until then
    failed before output    nothing; a refused request neither

    lost (the gateway died) what it had noted by then, at least the prompt where a backend had been asked

Each backend that was asked is booked so, and the request is the sum: a recipe whose second step failed before its first
word costs what its first one did. `UsageReport.source` says how each number is known: `upstream` was reported,
`counted` is what passed through us, `estimated` is a formula's word.

A row outlives the program that wrote it. Rule of change of `LedgerRow.tariff`: it is JSON of the fields of
`core.money.Tariff`, amounts in micro-yuan, tokens per million; a field's meaning never changes, a new meaning gets a
new name, and a reader takes a field that is missing for the default of the class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache

from app.accounts.interfaces import AttemptRow, LedgerRow, Outcome, RowState
from app.core.events import UsageReport, UsageSource
from app.core.money import Prices, Tariff, Tier

NO_TARIFF = "null"
"""`LedgerRow.tariff` where the model has none: what the request cost is not known, its `cost_micros` is 0."""

_COUNT_MAX = 10**9
_COST_MAX_MICROS = 10**15
_TEXT_MAX_CHARS = 256
_NOTHING = UsageReport(source="counted")
_TIERS_MARK = '"tiers":['
_WEAKEST_FIRST: tuple[UsageSource, ...] = ("estimated", "counted", "upstream")


def book_attempt(
    *,
    number: int,
    model: str,
    backend: str,
    backend_model: str,
    backend_request_id: str | None,
    usage: UsageReport | None,
    tariff: Tariff | None,
    total_ms: float,
    outcome: Outcome,
    error_code: str | None = None,
    volume_before: int = 0,
) -> AttemptRow:
    """Makes the row of one backend that was asked, cost included.

    Numbers are brought into bounds and text is made printable: a backend that reports nonsense must not spoil the
    ledger. Cached tokens never exceed input tokens.

    Args:
        usage: what is to be paid; `None`: nothing was delivered, nothing is paid, not even the price per call.
        tariff: of the model; `None`: unknown, which is booked as such and not as free.
        volume_before: as of a row; the ledger puts it right where it settles.
    """
    paid = _bounded(usage) if usage is not None else _NOTHING
    cost_micros = tariff.cost_micros(paid, volume_before) if tariff is not None and usage is not None else 0
    return AttemptRow(
        number=number,
        model=_printable(model),
        backend=backend,
        backend_model=_printable(backend_model),
        backend_request_id=None if backend_request_id is None else _printable(backend_request_id),
        input_tokens=paid.input_tokens,
        output_tokens=paid.output_tokens,
        cached_tokens=paid.cached_tokens,
        reasoning_tokens=paid.reasoning_tokens,
        image_count=paid.image_count,
        usage_source=paid.source,
        tariff=tariff_json(tariff),
        cost_micros=_cost(cost_micros),
        total_ms=max(0, round(total_ms)),
        outcome=outcome,
        error_code=error_code,
        volume_before=volume_before,
    )


def book(
    *,
    request_id: str,
    started_at: float,
    key_id: str,
    model: str,
    stream: bool,
    attempts: Sequence[AttemptRow],
    tariff: Tariff | None,
    first_event_ms: float | None,
    total_ms: float,
    outcome: Outcome,
    state: RowState = "settled",
    error_code: str | None = None,
    hold_micros: int = 0,
    day: str = "",
    lease_until: float | None = None,
    queued_ms: float = 0,
) -> LedgerRow:
    """Makes the row of a request as it stands, out of those of its attempts.

    Args:
        started_at: Unix time in seconds.
        model: as the caller named it; made printable.
        attempts: in the order they were asked; none where the request was refused.
        tariff: of the model, for a request without attempts.
        first_event_ms, total_ms: from the request's arrival.
        hold_micros, day, lease_until, queued_ms: as of a row.
    """
    last = attempts[-1] if attempts else None
    usage = usage_of(attempts)
    return LedgerRow(
        request_id=request_id,
        started_at=started_at,
        key_id=key_id,
        model=_printable(model),
        backend=last.backend if last else "",
        backend_model=last.backend_model if last else "",
        backend_request_id=last.backend_request_id if last else None,
        stream=stream,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        image_count=usage.image_count,
        usage_source=usage.source,
        tariff=_tariff_of(attempts) if attempts else tariff_json(tariff),
        cost_micros=_cost(sum(attempt.cost_micros for attempt in attempts)),
        first_event_ms=None if first_event_ms is None else max(0, round(first_event_ms)),
        total_ms=max(0, round(total_ms)),
        outcome=outcome,
        error_code=error_code,
        state=state,
        hold_micros=hold_micros,
        day=day,
        lease_until=lease_until,
        queued_ms=max(0, round(queued_ms)),
        attempts=tuple(attempts),
    )


def usage_of(attempts: Sequence[AttemptRow]) -> UsageReport:
    """What attempts took together. Its source is the weakest of theirs, as far as they took anything."""
    if len(attempts) == 1:
        return _usage(attempts[0])
    sources = {attempt.usage_source for attempt in attempts if _used(attempt)}
    return _bounded(
        UsageReport(
            input_tokens=sum(attempt.input_tokens for attempt in attempts),
            output_tokens=sum(attempt.output_tokens for attempt in attempts),
            cached_tokens=sum(attempt.cached_tokens for attempt in attempts),
            reasoning_tokens=sum(attempt.reasoning_tokens for attempt in attempts),
            image_count=sum(attempt.image_count for attempt in attempts),
            source=next((source for source in _WEAKEST_FIRST if source in sources), _NOTHING.source),
        )
    )


def is_unpriced(row: LedgerRow | AttemptRow) -> bool:
    """True if something of a model without a tariff was used, so that nobody knows what it cost."""
    return row.tariff == NO_TARIFF and _used(row)


def with_volume(attempt: AttemptRow, tariff: Tariff, volume_before: int) -> AttemptRow:
    """The attempt at the price that its place in the month's volume has."""
    cost_micros = tariff.cost_micros(_usage(attempt), volume_before)
    return replace(attempt, cost_micros=_cost(cost_micros), volume_before=volume_before)


def with_attempts(row: LedgerRow, attempts: Sequence[AttemptRow]) -> LedgerRow:
    """The row with its attempts' costs put right."""
    return replace(row, attempts=tuple(attempts), cost_micros=_cost(sum(each.cost_micros for each in attempts)))


def volume_units(attempt: AttemptRow, tariff: Tariff) -> int:
    """How much an attempt adds to the month's volume; nothing where nothing is paid."""
    return tariff.units(_usage(attempt)) if _used(attempt) or attempt.outcome == "finished" else 0


def has_tiers(attempt: AttemptRow) -> bool:
    """Whether the price depends on a volume. Asked of every row, so it looks without reading the JSON."""
    return _TIERS_MARK in attempt.tariff


@lru_cache(maxsize=256)
def tariff_of(text: str) -> Tariff | None:
    """The tariff that a row keeps."""
    fields = json.loads(text)
    if fields is None:
        return None
    tiers = tuple(Tier(tier["from_units"], Prices(**tier["prices"])) for tier in fields.pop("tiers", ()))
    return Tariff(**fields, tiers=tiers)


@lru_cache(maxsize=256)
def tariff_json(tariff: Tariff | None) -> str:
    """The tariff as a row keeps it."""
    if tariff is None:
        return NO_TARIFF
    fields = asdict(tariff)
    if not tariff.tiers:
        del fields["tiers"], fields["volume"]  # as rows had it before there were tiers
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _tariff_of(attempts: Sequence[AttemptRow]) -> str:
    """The last one that was applied; none at all where one of those to be applied is not known."""
    used = [attempt for attempt in attempts if _used(attempt)] or attempts
    return NO_TARIFF if any(map(is_unpriced, used)) else used[-1].tariff


def _used(row: LedgerRow | AttemptRow) -> bool:
    return row.input_tokens + row.output_tokens + row.image_count > 0


def _usage(attempt: AttemptRow) -> UsageReport:
    return UsageReport(
        input_tokens=attempt.input_tokens,
        output_tokens=attempt.output_tokens,
        cached_tokens=attempt.cached_tokens,
        reasoning_tokens=attempt.reasoning_tokens,
        image_count=attempt.image_count,
        source=attempt.usage_source,
    )


def _bounded(usage: UsageReport) -> UsageReport:
    input_tokens = _count(usage.input_tokens)
    return UsageReport(
        input_tokens=input_tokens,
        output_tokens=_count(usage.output_tokens),
        cached_tokens=min(_count(usage.cached_tokens), input_tokens),
        reasoning_tokens=_count(usage.reasoning_tokens),
        image_count=_count(usage.image_count),
        source=usage.source,
    )


def _cost(micros: int) -> int:
    return max(0, min(micros, _COST_MAX_MICROS))


def _count(reported: int) -> int:
    return max(0, min(reported, _COUNT_MAX))


def _printable(text: str) -> str:
    """Cuts text of others, and replaces what a terminal would obey or a database refuse."""
    text = text[:_TEXT_MAX_CHARS]
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)
