"""Answers kept for callers who may ask twice: two requests of a key with one `Idempotency-Key` are the same request.

What the header and the body said is known by keyed digests only, so that the database tells nobody what was asked, nor
whether two callers asked the same.

Rule of change: nothing of it outlives `KEPT_S`. Another form of a digest gets a label with a higher number; rows of
before are then found by nobody, and end by themselves.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

KEPT_S: Final = 86_400.0
"""So long an answer can be had again."""

LEASE_S: Final = 30.0
"""So long a claim stands unheard of; then its gateway is taken for dead, and a twin may claim it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that wants to answer for all its twins.

    Args:
        digest: of the `Idempotency-Key`. body_digest: of what was asked. Both keyed, and of this key's alone.
    """

    key_id: str
    digest: str
    body_digest: str
    request_id: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A good answer, as it left.

    Args:
        headers: those that belong to the answer, not to how it was sent.
    """

    headers: tuple[tuple[str, str], ...]
    body: bytes = field(repr=False)


Standing: TypeAlias = Literal["claimed", "running", "other_body", "not_kept"] | KeptAnswer
"""claimed: nobody else answers; do, then `keep` or `give_up`. running: a twin is being answered. other_body: the
Idempotency-Key stands for another request. not_kept: a twin was answered, and the answer is not to be had any more."""


class ClaimDigests:
    """Makes claims.

    Args:
        secret: the server's.
    """

    def __init__(self, secret: bytes) -> None:
        self._names = hmac.digest(secret, b"idempotency key 1", "sha256")
        self._bodies = hmac.digest(secret, b"idempotent body 1", "sha256")

    def claim(self, key_id: str, name: str, path: str, body: bytes, request_id: str) -> Claim:
        """The claim of a request.

        Args:
            name: its Idempotency-Key.
            path: of the route: what is asked there is not what the same body asks elsewhere.
        """
        digest = hmac.digest(self._names, f"{key_id}\n{name}".encode(), "sha256").hex()
        asked = hmac.new(self._bodies, f"{key_id}\n{path}\n".encode(), "sha256")
        asked.update(body)
        return Claim(key_id, digest, asked.hexdigest(), request_id)


class KeptAnswers(Protocol):
    """Where claims stand and answers are kept, for all gateways that share it.

    Raises, all of them:
        RecordsUnavailable: it cannot be reached.
    """

    async def claim(self, claim: Claim, *, now: float) -> Standing:
        """Claims an Idempotency-Key, or says why not; durable when it returns.

        Args:
            now: Unix time in seconds.
        """
        ...

    async def keep(self, claim: Claim, answer: KeptAnswer | None, *, now: float) -> bool:
        """Keeps the answer to a claim for `KEPT_S`; durable when it returns. Of a claim that is not ours any more
        nothing changes.

        Args:
            answer: `None`: it is too large, twins are told so.

        Returns:
            Whether so much has been added that a sweep should not wait for its turn.
        """
        ...

    async def give_up(self, claim: Claim) -> None:
        """Frees a claim that led to no answer; of one that was kept nothing changes."""
        ...

    async def renew(self, claims: Collection[Claim], *, now: float) -> None:
        """Pushes on the leases of claims that are still being answered."""
        ...

    async def sweep(self, now: float) -> int:
        """Forgets what is too old, and the oldest answers where all together are too large; of those twins are still
        told that there was one. How many were forgotten."""
        ...
