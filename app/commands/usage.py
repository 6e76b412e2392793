"""`tuwen usage`: what was asked, and what it cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Literal, TypeAlias, assert_never

import typer

from app.accounts.exports import (
    Record,
    csv_lines,
    export_head,
    export_lines,
    row_record,
    summary_fields,
    summary_record,
)
from app.accounts.interfaces import AttemptRow, LedgerRow, UsageGrouping, UsageSummary
from app.accounts.usage import is_unpriced
from app.commands.records import open_store
from app.commands.tables import local_time, print_table
from app.commands.wanted import Wanted
from app.config.settings import Settings
from app.core.money import format_yuan

UsageForm: TypeAlias = Literal["table", "json", "csv"]


def show(settings: Settings, wanted: Wanted, *, by: UsageGrouping, form: UsageForm, newest: int | None) -> None:
    """Prints usage.

    Args:
        newest: so many single requests instead of sums.

    Raises:
        CommandFailed: there are no records.
    """
    if newest is not None:
        rows = asyncio.run(_rows(settings, wanted, newest))
        match form:
            case "table":
                _print_rows(rows)
            case "json":
                _print_json([row_record(row) for row in rows])
            case "csv":
                typer.echo(export_head("csv") + export_lines("csv", rows), nl=False)
            case _:  # pragma: no cover - the type checker proves it cannot be reached
                assert_never(form)
        return
    groups = asyncio.run(_summary(settings, wanted, by))
    records = [summary_record(by, group) for group in groups]
    match form:
        case "table":
            _print_groups(by, groups)
        case "json":
            _print_json(records)
        case "csv":
            fields = summary_fields(by)
            typer.echo(csv_lines([fields, *([record[name] for name in fields] for record in records)]), nl=False)
        case _:  # pragma: no cover - the type checker proves it cannot be reached
            assert_never(form)


def _print_json(records: Sequence[Record]) -> None:
    typer.echo(json.dumps(records, ensure_ascii=False, indent=2))


async def _rows(settings: Settings, wanted: Wanted, limit: int) -> Sequence[LedgerRow]:
    async with open_store(settings, create=False) as store:
        return await store.rows(since=wanted.since, limit=limit, only=wanted.only)


async def _summary(settings: Settings, wanted: Wanted, by: UsageGrouping) -> Sequence[UsageSummary]:
    async with open_store(settings, create=False) as store:
        return await store.summary(by, since=wanted.since, only=wanted.only)


def _print_groups(by: UsageGrouping, groups: Sequence[UsageSummary]) -> None:
    columns = (by.upper(), ">REQUESTS", ">FAILED", ">INPUT", ">OUTPUT", ">PICTURES", ">COST (YUAN)", "")
    print_table(columns, map(_group_cells, groups), total=_group_cells(_added_up(groups)) if len(groups) > 1 else None)


def _group_cells(group: UsageSummary) -> tuple[str, ...]:
    counts = (group.requests, group.failed, group.input_tokens, group.output_tokens, group.image_count)
    unpriced = f"and {group.unpriced} without a tariff" if group.unpriced else ""
    return (group.group, *map(str, counts), format_yuan(group.cost_micros), unpriced)


def _added_up(groups: Sequence[UsageSummary]) -> UsageSummary:
    return UsageSummary(
        group="total",
        requests=sum(group.requests for group in groups),
        failed=sum(group.failed for group in groups),
        input_tokens=sum(group.input_tokens for group in groups),
        output_tokens=sum(group.output_tokens for group in groups),
        image_count=sum(group.image_count for group in groups),
        cost_micros=sum(group.cost_micros for group in groups),
        unpriced=sum(group.unpriced for group in groups),
    )


def _print_rows(rows: Sequence[LedgerRow]) -> None:
    columns = (
        "TIME", "MODEL", "BACKEND", "KEY", ">INPUT", ">OUTPUT", ">PICTURES",
        ">COST (YUAN)", ">FIRST (MS)", ">TOTAL (MS)", "OUTCOME",
    )  # fmt: skip
    print_table(columns, [cells for row in rows for cells in (_row_cells(row), *_step_cells(row))])


def _step_cells(row: LedgerRow) -> list[tuple[str, ...]]:
    """A line for each backend that was asked, where there were several."""
    return [_attempt_cells(attempt) for attempt in row.attempts] if len(row.attempts) > 1 else []


def _attempt_cells(attempt: AttemptRow) -> tuple[str, ...]:
    return (
        f"  {attempt.number}.",
        attempt.model,
        attempt.backend,
        "",
        *_amount_cells(attempt),
        "",
        str(attempt.total_ms),
        _outcome_words(attempt),
    )


def _row_cells(row: LedgerRow) -> tuple[str, ...]:
    return (
        local_time(row.started_at),
        row.model,
        row.backend,
        row.key_id,
        *_amount_cells(row),
        "" if row.first_event_ms is None else str(row.first_event_ms),
        str(row.total_ms),
        _outcome_words(row),
    )


def _amount_cells(row: LedgerRow | AttemptRow) -> tuple[str, ...]:
    counts = (row.input_tokens, row.output_tokens, row.image_count)
    return (*map(str, counts), "no tariff" if is_unpriced(row) else format_yuan(row.cost_micros))


def _outcome_words(row: LedgerRow | AttemptRow) -> str:
    return row.outcome if row.error_code is None else f"{row.outcome}: {row.error_code}"
