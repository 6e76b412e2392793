"""What a request cost, and the ledger row that says so.

Who pays for what:

    finished                the usage the backend reported, else what was counted or estimated
    gone                    what was produced until the caller left
    failed after output     what was delivered until then
    failed before output    nothing; a refused request neither

A row outlives the program that wrote it. Rule of change of `LedgerRow.tariff`: it is JSON of the fields of
`core.money.Tariff`, amounts in micro-yuan, tokens per million; a field's meaning never changes, a new meaning gets a
new name, and a reader takes a field that is missing for the default of the class.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache

from app.accounts.interfaces import LedgerRow, Outcome
from app.core.events import UsageReport
from app.core.money import Tariff

NO_TARIFF = "null"
"""`LedgerRow.tariff` where the model has none: what the request cost is not known, its `cost_micros` is 0."""

_COUNT_MAX = 10**9
_COST_MAX_MICROS = 10**15
_TEXT_MAX_CHARS = 256
_NOTHING = UsageReport(source="counted")


def book(
    *,
    request_id: str,
    started_at: float,
    key_id: str,
    model: str,
    backend: str,
    backend_model: str,
    backend_request_id: str | None,
    stream: bool,
    usage: UsageReport | None,
    tariff: Tariff | None,
    first_event_ms: float | None,
    total_ms: float,
    outcome: Outcome,
    error_code: str | None = None,
) -> LedgerRow:
    """Makes the row of a request that has ended, cost included.

    Numbers are brought into bounds and text is made printable: a backend that reports nonsense, or a caller who asks
    for a model with an odd name, must not spoil the ledger. Cached tokens never exceed input tokens.

    Args:
        started_at: Unix time in seconds.
        usage: what is to be paid; `None`: nothing was delivered, nothing is paid, not even the price per call.
        tariff: of the model; `None`: unknown, which is booked as such and not as free.
        first_event_ms, total_ms: from the request's arrival.
    """
    paid = _bounded(usage) if usage is not None else _NOTHING
    cost_micros = tariff.cost_micros(paid) if tariff is not None and usage is not None else 0
    return LedgerRow(
        request_id=request_id,
        started_at=started_at,
        key_id=key_id,
        model=_printable(model),
        backend=backend,
        backend_model=_printable(backend_model),
        backend_request_id=None if backend_request_id is None else _printable(backend_request_id),
        stream=stream,
        input_tokens=paid.input_tokens,
        output_tokens=paid.output_tokens,
        cached_tokens=paid.cached_tokens,
        reasoning_tokens=paid.reasoning_tokens,
        image_count=paid.image_count,
        usage_source=paid.source,
        tariff=tariff_json(tariff),
        cost_micros=max(0, min(cost_micros, _COST_MAX_MICROS)),
        first_event_ms=None if first_event_ms is None else max(0, round(first_event_ms)),
        total_ms=max(0, round(total_ms)),
        outcome=outcome,
        error_code=error_code,
    )


def is_unpriced(row: LedgerRow) -> bool:
    """True if the request used something of a model without a tariff, so that nobody knows what it cost."""
    return row.tariff == NO_TARIFF and row.input_tokens + row.output_tokens + row.image_count > 0


@lru_cache(maxsize=256)
def tariff_json(tariff: Tariff | None) -> str:
    """The tariff as a row keeps it."""
    return NO_TARIFF if tariff is None else json.dumps(asdict(tariff), sort_keys=True, separators=(",", ":"))


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


def _count(reported: int) -> int:
    return max(0, min(reported, _COUNT_MAX))


def _printable(text: str) -> str:
    """Cuts text of others, and replaces what a terminal would obey or a database refuse."""
    text = text[:_TEXT_MAX_CHARS]
    return text if text.isprintable() else "".join(char if char.isprintable() else "\ufffd" for char in text)
