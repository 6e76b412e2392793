"""Time and chance, as values: whoever needs them is handed them, so that tests can hand others."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass


def _hex_32() -> str:
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Clock:
    """What the world says.

    Args:
        now: Unix time in seconds.
        monotonic: seconds since some fixed moment, for measuring spans.
        nonce: 32 hexadecimal digits, never the same twice.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    nonce: Callable[[], str] = _hex_32


def local_day(at: float) -> str:
    """The calendar day of a moment on the clock on the wall (TZ), as `2026-11-28`.

    Args:
        at: Unix time in seconds.
    """
    return time.strftime("%Y-%m-%d", time.localtime(at))
