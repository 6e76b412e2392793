"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from rich.console import Console
from rich.table import Table

# Wider than any row of ours: a row is one line, which a narrow terminal may wrap and a program can read.
_WIDTH_CHARS = 400


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, total: Sequence[str] | None = None) -> None:
    """Prints a table to stdout. Nothing in a cell is taken for markup: names are written by others.

    Args:
        columns: their heads; one that starts with `>` is aligned to the right.
        total: a last row, set apart.
    """
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.removeprefix(">"), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if total is not None:
        table.add_section()
        table.add_row(*total, style="bold")
    Console(markup=False, emoji=False, highlight=False, width=_WIDTH_CHARS).print(table)


def local_time(at: float) -> str:
    """A moment for people, from Unix seconds: `2026-11-20 10:42:07`, local time."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
