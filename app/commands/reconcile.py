"""`tuwen reconcile`: a cloud's bill beside what was booked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import typer

from app.accounts.bills import Bill, Columns
from app.accounts.exports import reconciliation_record
from app.accounts.reconcile import DIFFERENCES, Difference, Reconciler, Reconciliation, add_ours
from app.commands.records import open_store
from app.commands.tables import print_table
from app.config.settings import Settings
from app.core.money import format_yuan

_SHOWN_MAX = 20
_WORDS = {
    "dearer": "dearer than booked",
    "cheaper": "cheaper than booked",
    "missing_in_ledger": "not in the ledger",
    "missing_in_bill": "not in the bill",
    "unidentified": "booked without an id of the cloud",
}


def reconcile(
    settings: Settings,
    file: Path,
    backend: str,
    *,
    columns: Columns,
    of: tuple[float | None, float | None],
    as_json: bool,
) -> None:
    """Compares a bill with the ledger and prints the drift.

    Args:
        of: from when until when ours are compared, in Unix seconds; `None`: as far as the bill reaches.

    Raises:
        CommandFailed: there are no records.
        InvalidRequest: the file is no bill.
        OSError: it cannot be read.
    """
    result = asyncio.run(_compare(settings, Bill.read(file.read_bytes(), columns), backend, of))
    if result.matched == 0 and result.booked_micros == 0:
        typer.echo(
            f"Nothing was booked for the backend {backend} in that time. See 'tuwen usage --by backend'.", err=True
        )
    if as_json:
        typer.echo(json.dumps(reconciliation_record(result), ensure_ascii=False, indent=2))
    else:
        _print(result)


async def _compare(
    settings: Settings, bill: Bill, backend: str, of: tuple[float | None, float | None]
) -> Reconciliation:
    async with open_store(settings, create=False) as store:
        reconciler = Reconciler(bill)
        await add_ours(reconciler, store, backend, since=of[0], until=of[1])
        return reconciler.result()


def _print(result: Reconciliation) -> None:
    rows = [cells for name in DIFFERENCES for cells in _cells(name, getattr(result, name))]
    rows += [
        ("stands twice", line.request_id or "", format_yuan(line.micros), "", "", f"line {line.number}")
        for line in result.doubled[:_SHOWN_MAX]
    ]
    if rows:
        print_table(("WHAT", "OF", ">BILL (YUAN)", ">BOOKED", ">DRIFT", "REQUEST"), rows)
    for line in _summary(result):
        typer.echo(line)


def _cells(name: str, differences: tuple[Difference, ...]) -> Iterator[tuple[str, ...]]:
    for each in differences[:_SHOWN_MAX]:
        booked = "no tariff" if each.unpriced else format_yuan(each.booked_micros)
        bill, drift = format_yuan(each.bill_micros), format_yuan(each.drift_micros)
        yield _WORDS[name], each.name, bill, booked, drift, " ".join(each.request_ids[:3])
    if len(differences) > _SHOWN_MAX:
        yield _WORDS[name], f"{len(differences) - _SHOWN_MAX} more; see --json", "", "", "", ""


def _summary(result: Reconciliation) -> Iterator[str]:
    what = "requests" if result.by == "request" else "days"
    yield f"Compared {result.lines} lines by {result.by}; {result.matched} {what} agree."
    for name in DIFFERENCES:
        if differences := getattr(result, name):
            drift = format_yuan(sum(each.drift_micros for each in differences))
            yield f"{len(differences)} {what} {_WORDS[name]}: {drift} yuan."
    if result.doubled:
        amount = format_yuan(sum(line.micros for line in result.doubled))
        yield f"{len(result.doubled)} lines stand twice: {amount} yuan."
    if result.unpriced:
        yield f"{result.unpriced} times the backend was asked without a tariff; nothing is booked for those."
    if result.rounded:
        yield f"{result.rounded} amounts of the bill were finer than a micro-yuan; each was rounded half up."
    bill, booked, drift = map(format_yuan, (result.bill_micros, result.booked_micros, result.drift_micros))
    yield f"The bill wants {bill} yuan, booked are {booked}; the drift is {drift}."
