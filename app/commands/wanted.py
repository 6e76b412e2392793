"""Which requests a command is about, as it was typed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from app.accounts import periods
from app.accounts.reports import Only
from app.commands.errors import CommandFailed


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests.

    Args:
        since: Unix time in seconds from which on they came.
    """

    since: float
    only: Only


def wanted(
    since: str,
    until: str | None,
    *,
    key: str | None = None,
    model: str | None = None,
    backend: str | None = None,
    now: datetime | None = None,
) -> Wanted:
    """Reads what was typed.

    Args:
        since, until: a span back from now as `12h`, `7d` or `4w`, a day as `2026-11-01` or a moment, local time; the
            day of `until` counts whole.
        now: unset: the present.

    Raises:
        CommandFailed: a time is none.
    """
    present = now or datetime.now().astimezone()
    start = _read("--since", since, present, periods.start_of)
    end = None if until is None else _read("--until", until, present, periods.end_of)
    return Wanted(start, Only(until=end, key_id=key, model=model, backend=backend))


def period(since: str | None, until: str | None) -> tuple[float | None, float | None]:
    """A period that need not be given, in Unix seconds.

    Raises:
        CommandFailed: a time is none.
    """
    now = datetime.now().astimezone()
    return (
        None if since is None else _read("--since", since, now, periods.start_of),
        None if until is None else _read("--until", until, now, periods.end_of),
    )


def _read(option: str, text: str, now: datetime, read: Callable[[str, datetime], float]) -> float:
    try:
        return read(text, now)
    except (ValueError, OverflowError):
        words = f"{option} {text}: write a span as 7d or 12h, or a day as 2026-11-01."
        raise CommandFailed(words, exit_code=2) from None
