"""`tuwen export`: every request of a period, for other programs."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path

import typer

from app.accounts.exports import ExportForm, export_head, export_lines
from app.accounts.reports import all_rows
from app.commands.records import open_store
from app.commands.wanted import Wanted
from app.config.settings import Settings


def export(settings: Settings, wanted: Wanted, *, form: ExportForm, out: Path | None) -> None:
    """Writes the rows, newest first; a page of them is in memory at a time.

    Args:
        out: the file, written anew; `None`: stdout.

    Raises:
        CommandFailed: there are no records.
        OSError: the file cannot be written.
    """
    count = asyncio.run(_export(settings, wanted, form, out))
    if out is not None:
        typer.echo(f"Wrote {count} requests to {out}.", err=True)


async def _export(settings: Settings, wanted: Wanted, form: ExportForm, out: Path | None) -> int:
    count = 0
    with ExitStack() as files:
        async with open_store(settings, create=False) as store:
            target = sys.stdout if out is None else files.enter_context(out.open("w", encoding="utf-8", newline=""))
            target.write(export_head(form))
            async for page in all_rows(store, since=wanted.since, only=wanted.only):
                target.write(export_lines(form, page))
                count += len(page)
    return count
