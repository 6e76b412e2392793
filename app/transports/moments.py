"""Moments that backends name in headers, for translators, which have no clock."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz


def with_wait_in_seconds(headers: Mapping[str, str], now_s: float) -> Mapping[str, str]:
    """The headers, with a date in `retry-after` (RFC 9110, section 10.2.3) told in seconds from now.

    Args:
        headers: with lower-case names.
        now_s: Unix time. What the backend's own clock says, in `date`, counts more: ours may be off.
    """
    until_s = _moment(headers.get("retry-after", ""))
    if until_s is None:
        return headers
    begun_s = _moment(headers.get("date", ""))
    wait_s = max(0.0, until_s - (now_s if begun_s is None else begun_s))
    return {**headers, "retry-after": f"{wait_s:.0f}"}


def _moment(date: str) -> float | None:
    """The Unix time of a date as HTTP writes it; `None` where it is none."""
    try:
        parsed = parsedate_tz(date)
        return None if parsed is None else float(mktime_tz(parsed))
    except (ValueError, OverflowError):  # of numbers that no day has
        return None
