"""What carries a call to a backend and its frames back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from app.core.types import Frame


class Reply(Protocol):
    """A backend's answer, open.

    `status` is the HTTP status, 200 where there is no HTTP; `headers` have lower-case names.
    """

    status: int
    headers: Mapping[str, str]
    secrets: Sequence[str] = ()
    """What let us in and the call did not hold, as a vendor's token; answers may repeat it."""

    async def body(self) -> bytes:
        """What came with a refusal, cut at a bound; for `Translator.refused`."""
        ...

    def frames(self) -> AsyncGenerator[Sequence[Frame], None]:
        """The frames, in batches: all that one read of the wire completed. Never an empty batch.

        Raises:
            BackendUnavailable: the connection broke before the first frame.
            BackendProtocolError: it broke later, or what came is oversized or no valid framing.
        """
        ...


class Transport(Protocol):
    """Opens calls of one type."""

    queues: bool
    """Whether `open` waits for a turn: then the wait for the first event begins when it is open, not before."""

    def open(self, call: Any, *, backend: str, connect_s: float) -> AbstractAsyncContextManager[Reply]:
        """Sends the call; the reply is open until the block ends, and its connection is closed with it.

        Args:
            backend: name in the catalogue, for errors.
            connect_s: bound on reaching the backend.

        Raises:
            BackendUnavailable: it cannot be reached.
            BackendTimeout: it cannot be reached within `connect_s`.
        """
        ...

    async def aclose(self) -> None:
        """Ends connections and processes."""
        ...
