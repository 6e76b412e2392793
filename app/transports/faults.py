"""What a library's errors are to us, and the words for them that all transports share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from app.core.errors import BackendError

REFUSAL_BYTES = 64 * 1024
"""How much of a refusal is read."""

UNREACHABLE = "The model's backend cannot be reached at the moment; try again in a few seconds."
CUT_SHORT = "The model's backend broke off its answer; try again."
NO_ANSWER = "The model's backend sent something that is not an answer; try again, or tell the operator if it persists."
BAD_CERTIFICATE = "The model's backend has no valid certificate; the operator must look."
BAD_ADDRESS = "The model's backend has no valid address; the operator must look."
TOO_LATE = "The model's backend did not answer in time; try again."

FaultRow: TypeAlias = tuple[type[Exception], type[BackendError], str, bool]
"""A library's exception, ours, words for the caller, whether another route may be tried."""


def mapped(error: Exception, table: Iterable[FaultRow], *, backend: str, detail: str) -> BackendError:
    """Our error for a library's, by the first row that fits."""
    for library, ours, words, retryable in table:
        if isinstance(error, library):
            return ours(words, backend=backend, detail=detail, retryable=retryable)
    raise error  # pragma: no cover - callers catch exactly the classes of the table
