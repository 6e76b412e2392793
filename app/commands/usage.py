"""`tuwen usage`: what was asked, and what it cost."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

import typer

from app.accounts.interfaces import AttemptRow, LedgerRow, UsageGrouping, UsageSummary
from app.accounts.usage import is_unpriced
from app.commands.errors import CommandFailed
from app.commands.records import open_store
from app.commands.tables import local_time, print_table
from app.config.settings import Settings
from app.core.money import format_yuan

UsageForm: TypeAlias = Literal["table", "json", "csv"]
_Record: TypeAlias = Mapping[str, Any]

_SPAN = re.compile(r"(\d{1,4})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def show(settings: Settings, *, by: UsageGrouping, since: str, form: UsageForm, newest: int | None) -> None:
    """Prints usage.

    Args:
        since: as `since_time` reads it.
        newest: so many single requests instead of sums.

    Raises:
        CommandFailed: `since` is no time, or there are no records.
    """
    start = since_time(since, datetime.now().astimezone())
    if newest is not None:
        rows = asyncio.run(_rows(settings, start, newest))
        if form == "table":
            _print_rows(rows)
        else:
            _print_records(form, [_row_record(row) for row in rows], _ROW_FIELDS)
        return
    groups = asyncio.run(_summary(settings, by, start))
    if form == "table":
        _print_groups(by, groups)
    else:
        _print_records(form, [_group_record(by, group) for group in groups], _group_fields(by))


def since_time(text: str, now: datetime) -> float:
    """Reads `12h`, `7d`, `4w` back from now, or a day or moment as `2026-11-01`, local time. Unix seconds.

    Raises:
        CommandFailed: it is neither.
    """
    if span := _SPAN.fullmatch(text):
        return (now - timedelta(**{_UNITS[span[2]]: int(span[1])})).timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise CommandFailed(
            f"--since {text}: write a span as 7d or 12h, or a day as 2026-11-01.", exit_code=2
        ) from None


async def _rows(settings: Settings, since: float, limit: int) -> Sequence[LedgerRow]:
    async with open_store(settings, create=False) as store:
        return await store.rows(since=since, limit=limit)


async def _summary(settings: Settings, by: UsageGrouping, since: float) -> Sequence[UsageSummary]:
    async with open_store(settings, create=False) as store:
        return await store.summary(by, since=since)


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


def _group_fields(by: UsageGrouping) -> list[str]:
    return [by, *UsageSummary.__slots__[1:], "cost_yuan"]


def _group_record(by: UsageGrouping, group: UsageSummary) -> _Record:
    fields = asdict(group)
    return {by: fields.pop("group"), **fields, "cost_yuan": format_yuan(group.cost_micros)}


# of CSV: a table in a table is for JSON
_ROW_FIELDS = [*LedgerRow.__slots__[:-1], "cost_yuan"]


def _row_record(row: LedgerRow) -> _Record:
    """A row for programs: times with their offset, costs as text too, and `None` for a cost nobody knows."""
    started_at = datetime.fromtimestamp(row.started_at).astimezone().isoformat(timespec="milliseconds")
    attempts = [{**asdict(attempt), **_cost_record(attempt)} for attempt in row.attempts]
    return {**asdict(row), "started_at": started_at, **_cost_record(row), "attempts": attempts}


def _cost_record(row: LedgerRow | AttemptRow) -> _Record:
    if is_unpriced(row):
        return {"cost_micros": None, "cost_yuan": None}
    return {"cost_micros": row.cost_micros, "cost_yuan": format_yuan(row.cost_micros)}


def _print_records(form: Literal["json", "csv"], records: Sequence[_Record], fields: Sequence[str]) -> None:
    if form == "json":
        typer.echo(json.dumps(records, ensure_ascii=False, indent=2))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([[_cell(record[field]) for field in fields] for record in records])


def _cell(value: object) -> object:
    """Keeps a spreadsheet from running a name as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
