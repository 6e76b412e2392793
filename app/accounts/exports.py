"""Rows and sums as other programs read them: JSON, a JSON line per request, CSV. Amounts are there as micro-yuan and as
yuan; both are `None` where nobody knows what it cost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, TypeAlias, assert_never

from app.accounts.interfaces import AttemptRow, LedgerRow, UsageGrouping, UsageSummary
from app.accounts.reconcile import DIFFERENCES, Reconciliation
from app.accounts.usage import is_unpriced
from app.core.money import format_yuan

ExportForm: TypeAlias = Literal["csv", "jsonl"]
Record: TypeAlias = Mapping[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ROW_FIELDS = [*LedgerRow.__slots__[:-1], "cost_yuan"]
"""Of CSV: a table in a table, as the attempts are, is for JSON."""


def row_record(row: LedgerRow) -> Record:
    """A request with its attempts; times with their offset."""
    return {**_flat_record(row), "attempts": [{**_fields(each), **_cost(each)} for each in row.attempts]}


def _flat_record(row: LedgerRow) -> dict[str, Any]:
    return {**_fields(row), "started_at": iso_time(row.started_at), **_cost(row)}


def _fields(row: LedgerRow | AttemptRow) -> dict[str, Any]:
    """Not `asdict`: that copies every value, and takes most of the time of an export."""
    return {name: getattr(row, name) for name in row.__slots__}


def summary_record(by: UsageGrouping, group: UsageSummary) -> Record:
    """A sum, with its group under the name of what was added up by."""
    fields = asdict(group)
    return {by: fields.pop("group"), **fields, "cost_yuan": format_yuan(group.cost_micros)}


def summary_fields(by: UsageGrouping) -> Sequence[str]:
    """The columns of sums."""
    return [by, *UsageSummary.__slots__[1:], "cost_yuan"]


def export_head(form: ExportForm) -> str:
    """What stands before the rows."""
    return csv_lines([_ROW_FIELDS]) if form == "csv" else ""


def export_lines(form: ExportForm, rows: Iterable[LedgerRow]) -> str:
    """A line for each row."""
    match form:
        case "csv":
            return csv_lines([record[name] for name in _ROW_FIELDS] for record in map(_flat_record, rows))
        case "jsonl":
            return "".join(f"{json.dumps(row_record(row), ensure_ascii=False)}\n" for row in rows)
        case _:  # pragma: no cover - the type checker proves it cannot be reached
            assert_never(form)


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV. No spreadsheet is to run what others wrote as a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    return text.getvalue()


def reconciliation_record(result: Reconciliation) -> Record:
    """What came of comparing a bill; drifts are those of the bill from the ledger."""
    record = {name: getattr(result, name) for name in ("by", "lines", "matched", "rounded", "unpriced")}
    sums = {name: getattr(result, name) for name in ("bill_micros", "booked_micros", "drift_micros")}
    lists = {
        name: [{**asdict(entry), "drift_micros": entry.drift_micros} for entry in getattr(result, name)]
        for name in DIFFERENCES
    }
    doubled = [{"number": line.number, "name": line.request_id, "bill_micros": line.micros} for line in result.doubled]
    return {**record, **sums, **lists, "doubled": doubled}


def iso_time(at: float) -> str:
    """A moment, from Unix seconds, on the clock on the wall with its offset: `2026-11-20T10:42:07.123+08:00`."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")


def _cost(row: LedgerRow | AttemptRow) -> Record:
    if is_unpriced(row):
        return {"cost_micros": None, "cost_yuan": None}
    return {"cost_micros": row.cost_micros, "cost_yuan": format_yuan(row.cost_micros)}


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
