"""Moments as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from app.accounts.periods import ahead, end_of, start_of

NOW = datetime(2026, 11, 28, 12, 30).astimezone()


def local(*parts: int) -> float:
    return datetime(*parts).astimezone().timestamp()  # type: ignore[arg-type, misc]  # no time zone is among the parts


def test_span_reaches_back_from_now_or_ahead() -> None:
    assert start_of("12h", NOW) == end_of("12h", NOW) == (NOW - timedelta(hours=12)).timestamp()
    assert ahead("2w", NOW) == (NOW + timedelta(weeks=2)).timestamp()


def test_day_counts_whole() -> None:
    assert start_of("2026-11-28", NOW) == local(2026, 11, 28)
    assert end_of("2026-11-28", NOW) == ahead("2026-11-28", NOW) == local(2026, 11, 29)
    assert end_of("2026-12-31", NOW) == local(2027, 1, 1)


@pytest.mark.parametrize("read", [start_of, end_of, ahead])
def test_moment_is_itself(read: type) -> None:
    assert read("2026-11-28T08:15", NOW) == local(2026, 11, 28, 8, 15)
    assert read("2026-11-28T08:15:00+00:00", NOW) == datetime.fromisoformat("2026-11-28T08:15:00+00:00").timestamp()


@pytest.mark.parametrize("read", [start_of, end_of, ahead])
@pytest.mark.parametrize("text", ["", "moon", "7", "7y", "99999d", "2026-02-30", "1969-12-31"])
def test_what_is_no_moment_is_refused(read: type, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(text, NOW)
