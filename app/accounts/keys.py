"""Keys: their form, how they are made, and who stands behind one.

A key is `sk-tw-` and 43 letters of base64url: 256 random bits. We keep a keyed digest of the whole text, HMAC-SHA256
under the server's secret: a stolen database opens nothing, and whoever loses the secret loses every key.

Rule of change: keys live for years in other people's settings. A new form gets a new prefix (it must still begin with
`sk-`, some clients refuse others); the old form is read as long as one key of it is not revoked. The digest is taken
over the text as it stands, prefix included, so that both forms live in one table.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

from app.accounts.interfaces import Caller, HeldKey, KeyRecord, KeyStore
from app.accounts.key_terms import LIMIT_NAMES, Terms, read_name
from app.accounts.vendor_keys import KEY_ID_FORM, VendorKeys
from app.core.clock import Clock, local_day
from app.core.errors import AuthenticationFailed
from app.core.secret import Guarded

KEY_PREFIX = "sk-tw-"
_KEY_BYTES = 32
_KEY_ID_BYTES = 6
_INCORRECT = "Incorrect API key provided"
"""OpenAI's words. LiteLLM knows a wrong key by them, and takes a 401 without them for a bad request."""
_KEY_FORM = re.compile(KEY_PREFIX + r"[A-Za-z0-9_-]{43}")
_NO_KEY = frozenset({"", "null", "undefined", "none"})
_CALLERS_MAX = 10_000
_STRANGERS_MAX = 1_000

T = TypeVar("T")


class KeyDigest:
    """Turns a key into the digest it is stored under."""

    def __init__(self, secret: bytes) -> None:
        self._keyed = hmac.new(secret, digestmod="sha256")

    def of(self, key: str) -> str:
        """The digest, hexadecimal."""
        copy = self._keyed.copy()
        copy.update(key.encode())
        return copy.hexdigest()


@dataclass(frozen=True, slots=True)
class MintedKey(Guarded):
    """A new key. `key` is the secret itself: show it once, keep it nowhere."""

    key: str = field(repr=False)
    record: KeyRecord


class KeyMint:
    """Makes keys.

    Args:
        secret: the server's.
        clock: Unix time in seconds.
        random_bytes: so many random bytes, fit for secrets.
    """

    def __init__(self, secret: bytes, *, clock: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        self._digest = KeyDigest(secret)
        self._clock = clock
        self._random_bytes = random_bytes

    def mint(self, name: str, *, admin: bool, terms: Terms = Terms()) -> MintedKey:  # noqa: B008 - frozen
        """Makes a key; storing its record, and the budget of its terms, is the caller's next step.

        Raises:
            InvalidRequest: the name is empty, too long, or holds characters that cannot be printed.
        """
        name = read_name(name)
        fields = {field: value for field, value in terms.fields.items() if field not in {"name", *LIMIT_NAMES}}
        key = KEY_PREFIX + urlsafe_b64encode(self._random_bytes(_KEY_BYTES)).decode().rstrip("=")
        record = KeyRecord(
            id=f"key_{self._random_bytes(_KEY_ID_BYTES).hex()}",
            name=name,
            digest=self._digest.of(key),
            admin=admin,
            created_at=self._clock(),
            limits=terms.limits,
            **fields,
        )
        return MintedKey(key, record)


async def first_key(store: KeyStore, mint: KeyMint) -> str | None:
    """Mints an admin key where there is none of any sort yet: the first start.

    Returns:
        The key, to be shown once; `None` if keys exist already, revoked ones included.
    """
    minted = mint.mint("admin", admin=True)
    return minted.key if await store.add_first_key(minted.record) else None


@dataclass(frozen=True, slots=True)
class VendorHolder:
    """Who holds credentials in a vendor's form.

    Args:
        version: of the credentials in force.
    """

    caller: Caller
    version: int


@dataclass(frozen=True, slots=True)
class _Door:
    """What a key opens.

    Args:
        expires_at: Unix time in seconds from which on it opens nothing; `None`: never.
    """

    holder: VendorHolder
    expires_at: float | None


class Authenticator:
    """Says who stands behind a key. What it learned is believed for `cache_s`; a revoked key lives on no longer than
    that and the half second for which the store lets others join a question.

    Args:
        secret: the server's.

    Attributes:
        vendor_keys: derives the credentials that callers present in a vendor's form.
    """

    def __init__(self, store: KeyStore, secret: bytes, *, clock: Clock, cache_s: float = 1.0) -> None:
        self._store = store
        self._digest = KeyDigest(secret)
        self._clock = clock
        self._by_digest: _Beliefs[_Door] = _Beliefs(cache_s)
        self._by_id: _Beliefs[_Door] = _Beliefs(cache_s)
        self.vendor_keys = VendorKeys(secret)

    async def caller(self, presented: str | None) -> Caller:
        """Who presents this key.

        Args:
            presented: the key as it came, without `Bearer`; `None` if none came.

        Raises:
            AuthenticationFailed: no key, not a key, not ours, revoked, or expired; the message never repeats the key.
            RecordsUnavailable: the store cannot be read.
        """
        if presented is None or presented.lower() in _NO_KEY:
            raise AuthenticationFailed("No API key was given. Send it as the header 'Authorization: Bearer sk-tw-...'.")
        if _KEY_FORM.fullmatch(presented) is None:
            raise AuthenticationFailed(
                f"{_INCORRECT}: this gateway's keys are 'sk-tw-' and 43 letters. Check that it is whole."
            )
        digest = self._digest.of(presented)
        asked_at = self._clock.monotonic()
        until, door = self._by_digest.recalled(digest)
        if asked_at >= until:
            held = await self._store.key_by_digest(digest)
            door = self._by_digest.learned(digest, self._door(held), asked_at)
        if door is None:
            raise AuthenticationFailed(f"{_INCORRECT}: it is unknown or was revoked. Ask the operator for another.")
        if self._has_expired(door):
            raise AuthenticationFailed(f"{_INCORRECT}: it has expired. Ask the operator for another.")
        return door.holder.caller

    async def vendor_holder(self, key_id: str) -> VendorHolder | None:
        """Who holds the vendor credentials of a key; `None` if there is no such key, it was revoked, or has expired.

        Raises:
            RecordsUnavailable: the store cannot be read.
        """
        if KEY_ID_FORM.fullmatch(key_id) is None:
            return None
        asked_at = self._clock.monotonic()
        until, door = self._by_id.recalled(key_id)
        if asked_at >= until:
            held = await self._store.key_by_id(key_id)
            door = self._by_id.learned(key_id, self._door(held), asked_at)
        return None if door is None or self._has_expired(door) else door.holder

    def _door(self, held: HeldKey | None) -> _Door | None:
        """`None`: there is no such key, or it was revoked."""
        if held is None or held.record.revoked_at is not None:
            return None
        caller = _caller(held, local_day(self._clock.now()))
        return _Door(VendorHolder(caller, held.record.vendor_version), held.record.expires_at)

    def _has_expired(self, door: _Door) -> bool:
        return door.expires_at is not None and self._clock.now() >= door.expires_at


def _caller(held: HeldKey, day: str) -> Caller:
    record, balance = held.record, held.balance
    return Caller(
        key_id=record.id,
        name=record.name,
        admin=record.admin,
        models=record.models,
        limits=record.limits,
        model_limits=record.model_limits,
        budgeted=balance.budget.bounded,
        left_micros=balance.left_micros(day),
        log_content=record.log_content,
    )


class _Beliefs(Generic[T]):
    """What the store said, for a while.

    Strangers are remembered apart from callers, so that a flood of wrong keys cannot push out the right ones.
    """

    def __init__(self, cache_s: float) -> None:
        self._cache_s = cache_s
        self._known: dict[str, tuple[float, T]] = {}
        self._strangers: dict[str, tuple[float, None]] = {}

    def recalled(self, name: str) -> tuple[float, T | None]:
        """Until when what is believed of a name, and what it is; `None` for a stranger."""
        return self._known.get(name) or self._strangers.get(name) or (-inf, None)

    def learned(self, name: str, said: T | None, asked_at: float) -> T | None:
        """Remembers what the store said, and gives it back. Its time counts from before the question, so no answer is
        believed for longer than it may."""
        self._known.pop(name, None)
        self._strangers.pop(name, None)
        until = asked_at + self._cache_s
        if said is None:
            _remember(self._strangers, name, (until, None), entries_max=_STRANGERS_MAX)
        else:
            _remember(self._known, name, (until, said), entries_max=_CALLERS_MAX)
        return said


def _remember(cache: dict[str, T], name: str, believed: T, *, entries_max: int) -> None:
    """Adds an entry that is not there yet; a full cache drops its oldest, which is also the first to expire."""
    if len(cache) >= entries_max:
        del cache[next(iter(cache))]
    cache[name] = believed
