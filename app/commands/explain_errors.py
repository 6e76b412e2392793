"""`tuwen errors`: what an error code means, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches

import typer

from app.api.errors import answered_as
from app.backends.error_table import ErrorRow, ErrorTable
from app.backends.registry import KINDS, spec_of
from app.commands.errors import CommandFailed

_HINTS = 5


@dataclass(frozen=True, slots=True)
class Explained:
    """One code of one vendor, and what becomes of it here.

    Args:
        status: the HTTP status callers get. type, answered_code: OpenAI's `error.type` and `error.code`.
        retry: `later`: the same again after a wait; `elsewhere`: another route at once; `never`: nothing would change.
    """

    vendor: str
    code: str
    status: int
    type: str
    answered_code: str
    retry: str
    english: str
    chinese: str
    source: str


def explain(code: str | None, *, as_json: bool) -> None:
    """Prints what is known of a code, or of all.

    Raises:
        CommandFailed: no table has it; names those that look alike.
    """
    known = list(every_code())
    found = [item for item in known if code is None or item.code.lower() == code.strip().lower()]
    if not found:
        raise CommandFailed(_unknown(str(code), known))
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], ensure_ascii=False, indent=2))
        return
    typer.echo("\n\n".join(_in_words(item) for item in found))


def every_code() -> Iterator[Explained]:
    """All codes of all kinds of backends; a table that two kinds share, once."""
    tables: dict[int, ErrorTable] = {id(table): table for kind in KINDS for table in spec_of(kind).errors}
    for table in tables.values():
        for row in table.rows.values():
            yield _explained(table, row)


def _explained(table: ErrorTable, row: ErrorRow) -> Explained:
    status, kind = answered_as(row.error)
    return Explained(
        vendor=table.vendor,
        code=row.code,
        status=status,
        type=kind,
        answered_code=row.error.code or "",
        retry=row.retry,
        english=row.english,
        chinese=row.chinese,
        source=table.source,
    )


def _in_words(item: Explained) -> str:
    retry = {
        "never": "no: the same again would fail again",
        "elsewhere": "yes: another route of the model is tried at once",
        "later": "yes: after a wait, or on another route",
    }[item.retry]
    return (
        f"{item.vendor} {item.code}\n"
        f"  {item.english}\n"
        f"  {item.chinese}\n"
        f"  callers get  HTTP {item.status}, type {item.type}, code {item.answered_code}\n"
        f"  retry        {retry}\n"
        f"  source       {item.source}"
    )


def _unknown(code: str, known: Sequence[Explained]) -> str:
    names = {item.code.lower(): item.code for item in known}
    lower = code.lower()
    alike = [name for key, name in names.items() if len(lower) > 2 and lower in key] or [
        names[key] for key in get_close_matches(lower, names, _HINTS)
    ]
    hint = f"; alike are {', '.join(alike[:_HINTS])}" if alike else ""
    vendors = ", ".join(dict.fromkeys(item.vendor for item in known))
    return f"No table has a code {code[:80]}{hint}. There are tables of {vendors}; 'tuwen errors' prints them all."
