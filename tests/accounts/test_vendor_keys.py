"""Credentials derived from keys."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import replace

import pytest

from app.accounts.interfaces import Caller
from app.accounts.keys import Authenticator, VendorHolder
from app.accounts.vendor_keys import TOKEN_LIFE_S, PresentedToken, VendorKeys
from tests.accounts.records import FakeKeyStore
from tests.accounts.test_keys import SECRET, Watch, mint

KEY_ID = "key_0123456789ab"
NOW = 1_763_600_000.75


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def store() -> FakeKeyStore:
    return FakeKeyStore()


@pytest.fixture
def authenticator(store: FakeKeyStore, watch: Watch) -> Authenticator:
    return Authenticator(store, SECRET, clock=watch.clock)


def presented(text: str) -> PresentedToken:
    token = PresentedToken.read(text)
    assert token is not None
    return token


def test_secret_key_is_this_for_as_long_as_it_lives_in_settings() -> None:
    """The derivation outlives releases: computed here in other words."""
    label = hmac.digest(SECRET, b"vendor secret key 1", hashlib.sha256)
    expected = hmac.digest(label, f"{KEY_ID}\n7".encode(), hashlib.sha256).hex()[:32]
    assert VendorKeys(SECRET).secret_key(KEY_ID, 7) == expected


def test_secret_key_depends_on_key_version_and_server() -> None:
    keys = VendorKeys(SECRET)
    secrets = {
        keys.secret_key(KEY_ID, 1),
        keys.secret_key(KEY_ID, 2),
        keys.secret_key("key_0123456789ac", 1),
        VendorKeys(b"another").secret_key(KEY_ID, 1),
        keys.filler("session_key", KEY_ID, 1),
        presented(keys.token(KEY_ID, 1, now=NOW)).seal,
    }
    assert len(secrets) == 6
    assert all(re.fullmatch("[0-9a-f]{32}", secret) for secret in secrets)


def test_token_has_the_vendors_form_and_is_good_for_thirty_days() -> None:
    text = VendorKeys(SECRET).token(KEY_ID, 1, now=NOW)
    expires_at = 1_763_600_000 + 2_592_000
    assert re.fullmatch(rf"24\.[0-9a-f]{{32}}\.2592000\.{expires_at}\.{KEY_ID}", text)
    token = presented(text)
    assert (token.key_id, token.expires_at, TOKEN_LIFE_S) == (KEY_ID, expires_at, 2_592_000)
    assert token.seal not in repr(token)


def test_token_is_genuine_at_its_version_only_and_not_when_altered() -> None:
    keys = VendorKeys(SECRET)
    token = presented(keys.token(KEY_ID, 1, now=NOW))
    assert keys.genuine(token, 1)
    assert not keys.genuine(token, 2)
    assert not keys.genuine(replace(token, expires_at=token.expires_at + 1), 1)
    assert not keys.genuine(replace(token, key_id="key_0123456789ac"), 1)
    assert not VendorKeys(b"another").genuine(token, 1)


@pytest.mark.parametrize("text", ["", "24.x", "24." + "0" * 32 + ".2592000.1.key_1", "sk-tw-" + "A" * 43])
def test_what_has_another_form_is_no_token(text: str) -> None:
    assert PresentedToken.read(text) is None


async def test_holder_is_the_keys_caller_and_its_version(authenticator: Authenticator, store: FakeKeyStore) -> None:
    record = mint("laptop").record
    await store.add_key(replace(record, vendor_version=3))
    assert await authenticator.vendor_holder(record.id) == VendorHolder(Caller(record.id, "laptop", admin=False), 3)


async def test_renewed_version_and_revocation_are_known_a_second_later(
    authenticator: Authenticator, store: FakeKeyStore, watch: Watch
) -> None:
    record = mint().record
    await store.add_key(record)
    assert await authenticator.vendor_holder(record.id) is not None
    await store.renew_vendor_secret(record.id)
    asked = store.questions
    watch.s += 0.9
    assert (await authenticator.vendor_holder(record.id)) == VendorHolder(Caller(record.id, "laptop", admin=False), 1)
    assert store.questions == asked
    watch.s += 0.1
    renewed = await authenticator.vendor_holder(record.id)
    assert renewed is not None
    assert renewed.version == 2
    await store.revoke_key(record.id, 0.0)
    watch.s += 1.0
    assert await authenticator.vendor_holder(record.id) is None


async def test_what_is_no_key_id_does_not_reach_the_store(authenticator: Authenticator, store: FakeKeyStore) -> None:
    for key_id in ("", "key_", "key_0123456789AB", "ALTAKfakefake", "key_0123456789ab\n"):
        assert await authenticator.vendor_holder(key_id) is None
    assert store.questions == 0
    assert await authenticator.vendor_holder(KEY_ID) is None
    assert store.questions == 1
