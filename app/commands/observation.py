"""One line of what `tuwen doctor` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing looked at.

    Args:
        check: what was looked at, as `clock`.
        ok: `None`: it could not be looked at, or is not wanted.
        english, chinese: what was seen; where it is not ok, what to do.
    """

    check: str
    ok: bool | None
    english: str
    chinese: str
