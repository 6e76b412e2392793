"""What is worth knowing of a request for a while, and nobody is billed by: why it was refused, what was left out of it,
what backends said. Kept beside the ledger, dropped by age, and lost without harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with one attempt.

    Args:
        attempt: its number.
        error: the class of the error.
        backend_code, detail: what the vendor said; for operators only.
    """

    attempt: int
    backend: str
    error: str
    backend_code: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """Of one request.

    Args:
        at: Unix time in seconds.
        status: an outcome of the ledger, or `refused` where no backend was to be asked.
        error_code: OpenAI's code of what the caller was told.
    """

    request_id: str
    at: float
    key_id: str
    model: str
    status: str
    error_code: str | None = None
    notices: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


class Details(Protocol):
    """Where they are kept."""

    def add(self, detail: Detail) -> None:
        """Hands one over. Nobody waits for it; where there are too many, of all or of one key, or no database, it is
        dropped."""
        ...

    async def detail(self, request_id: str) -> Detail | None:
        """That of a request, if there was anything to say and it is not too old."""
        ...

    async def forget(self, before: float) -> int:
        """Drops those of before a moment (Unix seconds), a bounded number at once; how many."""
        ...


class NoDetails(Details):
    """Keeps none."""

    @override
    def add(self, detail: Detail) -> None:
        return None

    @override
    async def detail(self, request_id: str) -> Detail | None:
        return None

    @override
    async def forget(self, before: float) -> int:
        return 0
