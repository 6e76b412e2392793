"""Moments as people write them. Days are those of the clock on the wall where the gateway runs (TZ)."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

_SPAN = re.compile(r"(\d{1,4})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def start_of(text: str, now: datetime) -> float:
    """When a period begins: `12h`, `7d` or `4w` back from now, the beginning of a day as `2026-11-01`, or a moment as
    `2026-11-01T08:00`. Unix seconds.

    Raises:
        ValueError: it is none of these.
    """
    span = _span(text)
    return (now - span).timestamp() if span is not None else _moment(text).timestamp()


def end_of(text: str, now: datetime) -> float:
    """When a period ends: as `start_of`, but a day counts whole. Unix seconds.

    Raises:
        ValueError: it is none of these.
    """
    span = _span(text)
    return (now - span).timestamp() if span is not None else _end(text)


def ahead(text: str, now: datetime) -> float:
    """A moment to come: `12h`, `7d` or `4w` from now, the end of a day as `2026-11-30`, or a moment. Unix seconds.

    Raises:
        ValueError: it is none of these.
    """
    span = _span(text)
    return (now + span).timestamp() if span is not None else _end(text)


def _span(text: str) -> timedelta | None:
    match = _SPAN.fullmatch(text)
    return None if match is None else timedelta(**{_UNITS[match[2]]: int(match[1])})


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.year < 1970:
        raise ValueError("before 1970")  # some systems have no local time there
    return moment


def _end(text: str) -> float:
    if not _DAY.fullmatch(text):
        return _moment(text).timestamp()
    next_day = _moment(text).date() + timedelta(days=1)
    return _midnight(next_day).timestamp()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time()).astimezone()
