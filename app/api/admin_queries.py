"""What the administration's addresses may ask for. A name that is none of these is refused: a filter that was mistyped
would pass for one that found everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from app.accounts import periods
from app.accounts.exports import ExportForm
from app.accounts.interfaces import UsageGrouping
from app.accounts.reports import Mark, Only
from app.core.errors import InvalidRequest, shown


class PeriodQuery(BaseModel):
    """A period."""

    model_config = ConfigDict(extra="forbid")

    since: str = Field("30d", description="A span as 12h, 7d or 4w, or a day as 2026-11-01.")
    until: str | None = Field(None, description="As `since`; a day counts whole. Unset: now.")


class WantedQuery(PeriodQuery):
    """Which requests."""

    key: str | None = Field(None, description="Only those of the key of this id.")
    model: str | None = Field(None, description="Only those to this model.")
    backend: str | None = Field(None, description="Only those this backend was asked for.")

    def wanted(self, now: float) -> tuple[float, Only]:
        """From when on (Unix seconds), and which.

        Args:
            now: Unix time in seconds.

        Raises:
            InvalidRequest: a time is none.
        """
        since, until = read_period(self.since, self.until, now)
        return since or 0.0, Only(until=until, key_id=self.key, model=self.model, backend=self.backend)


class UsageQuery(WantedQuery):
    """Sums of them."""

    by: UsageGrouping = "day"


class PageQuery(WantedQuery):
    """A page of them."""

    limit: int = Field(50, ge=1, le=500)
    after: str | None = Field(None, description="The `next` of the page before.")


class ExportQuery(WantedQuery):
    """All of them."""

    form: ExportForm = "csv"


class BillQuery(BaseModel):
    """Whose bill it is, and how to read it. A column that is not named is found by the usual heads."""

    model_config = ConfigDict(extra="forbid")

    backend: str = Field(min_length=1)
    id_column: str | None = None
    amount_column: str | None = None
    day_column: str | None = None
    since: str | None = Field(None, description="What is ours to compare. Unset: the days of the bill.")
    until: str | None = None


def read_cursor(text: str | None) -> Mark | None:
    """Where the page before ended, as its `next` said.

    Raises:
        InvalidRequest: it is none of ours.
    """
    if text is None:
        return None
    started_at, _, request_id = text.partition("_")
    try:
        return Mark(float(started_at), request_id)
    except ValueError as error:
        raise InvalidRequest("`after` is the `next` of the page before.", param="after") from error


def read_time(text: str, param: str, read: Callable[[str, datetime], float], now: float) -> float:
    """A time as an address holds it. Unix seconds.

    Args:
        read: one of `periods`.
        now: Unix time in seconds.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return read(text, datetime.fromtimestamp(now).astimezone())
    except (ValueError, OverflowError) as error:
        words = f"`{param}` is a span as 7d or 12h, or a day as 2026-11-01; {shown(text)!r} is neither."
        raise InvalidRequest(words, param=param) from error


def read_period(since: str | None, until: str | None, now: float) -> tuple[float | None, float | None]:
    """From when until when, in Unix seconds; the day of `until` counts whole.

    Raises:
        InvalidRequest: one is no time.
    """
    return (
        None if since is None else read_time(since, "since", periods.start_of, now),
        None if until is None else read_time(until, "until", periods.end_of, now),
    )
