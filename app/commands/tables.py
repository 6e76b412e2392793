"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

# Wider than any row of ours: what is not shown on a terminal has one line to a row, so that a program can read it.
_WIDTH_CHARS = 400
_GAP_CHARS = 2


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, total: Sequence[str] | None = None) -> None:
    """Prints a table to stdout. Nothing in a cell is taken for markup: names are written by others.

    A column without a word in any row is left out. On a terminal too narrow for the rows, cells of several words take
    several lines; no word is ever broken.

    Args:
        columns: their heads; one that starts with `>` is aligned to the right.
        total: a last row, set apart.
    """
    body = list(rows)
    every_row = body if total is None else [*body, total]
    used = [at for at in range(len(columns)) if not every_row or any(row[at] for row in every_row)]
    console = Console(markup=False, emoji=False, highlight=False)
    texts = [[columns[at].removeprefix(">"), *(row[at] for row in every_row)] for at in used]
    widths = _fitted(texts, console.width if sys.stdout.isatty() else _WIDTH_CHARS)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, _GAP_CHARS, 0, 0))
    for at, width in zip(used, widths, strict=True):
        justify: Literal["left", "right"] = "right" if columns[at].startswith(">") else "left"
        table.add_column(columns[at].removeprefix(">"), justify=justify, width=width)
    for row in body:
        table.add_row(*(row[at] for at in used))
    if total is not None:
        table.add_section()
        table.add_row(*(total[at] for at in used), style="bold")
    console.width = _WIDTH_CHARS
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        typer.echo(line.rstrip())


def _fitted(texts: Sequence[Sequence[str]], room_chars: int) -> list[int]:
    """How wide to make each column, given all its cells. Where not even the longest words fit, as wide as it likes."""
    natural = [max(map(cell_len, cells)) for cells in texts]
    least = [max((cell_len(word) for cell in cells for word in cell.split()), default=0) for cells in texts]
    excess = sum(natural) + _GAP_CHARS * (len(texts) - 1) - room_chars
    if excess > sum(natural) - sum(least):
        return natural
    widths = list(natural)
    while excess > 0:
        widest = max(range(len(widths)), key=lambda at: widths[at] - least[at])
        widths[widest] -= 1
        excess -= 1
    return widths


def local_time(at: float) -> str:
    """A moment for people, from Unix seconds: `2026-11-20 10:42:07`, local time."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
