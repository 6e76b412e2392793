"""How much of something a minute, and how much at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a key, or of what a vendor sold us. `None`: no bound.

    Args:
        rpm: requests in any sixty seconds.
        tpm: tokens in any sixty seconds, of input and output together.
        concurrency: requests at the same time.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None


NO_LIMITS = Limits()
