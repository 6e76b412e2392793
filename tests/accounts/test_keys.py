"""The form of keys, and who stands behind one."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime
from itertools import count
from typing import Any

import pytest

from app.accounts.balances import Balance, Budget
from app.accounts.interfaces import Caller
from app.accounts.key_terms import read_terms
from app.accounts.keys import Authenticator, KeyDigest, KeyMint, MintedKey, first_key
from app.core.clock import Clock
from app.core.errors import AuthenticationFailed, InvalidRequest, RecordsUnavailable
from app.core.limits import Limits
from tests.accounts.records import FakeKeyStore

SECRET = b"the server's secret"


NOON = datetime(2026, 11, 28, 12).astimezone().timestamp()  # local time
DAY_S = 86_400


class Watch:
    """A clock of both sorts that a test turns on."""

    def __init__(self) -> None:
        self.s = 0.0

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: NOON + self.s, monotonic=lambda: self.s)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def store() -> FakeKeyStore:
    return FakeKeyStore()


@pytest.fixture
def authenticator(store: FakeKeyStore, watch: Watch) -> Authenticator:
    return Authenticator(store, SECRET, clock=watch.clock)


def mint(name: str = "laptop", *, admin: bool = False, **written: Any) -> MintedKey:
    terms = read_terms(written, now=NOON)
    return KeyMint(SECRET, clock=lambda: 5.0, random_bytes=secrets.token_bytes).mint(name, admin=admin, terms=terms)


async def refusal(authenticator: Authenticator, presented: str | None) -> str:
    with pytest.raises(AuthenticationFailed) as caught:
        await authenticator.caller(presented)
    assert caught.value.code == "invalid_api_key"
    return str(caught.value)


def test_key_is_256_random_bits_in_base64url() -> None:
    minted = KeyMint(SECRET, clock=lambda: 5.0, random_bytes=bytes).mint("zeros", admin=True)
    assert minted.key == "sk-tw-" + "A" * 43
    assert re.fullmatch(r"sk-tw-[A-Za-z0-9_-]{43}", mint().key)


def test_record_holds_the_digest_and_never_the_key() -> None:
    minted = mint(" laptop ", admin=True)
    record = minted.record
    assert record.digest == hmac.digest(SECRET, minted.key.encode(), hashlib.sha256).hex()
    assert (record.name, record.admin, record.created_at, record.revoked_at) == ("laptop", True, 5.0, None)
    assert re.fullmatch("key_[0-9a-f]{12}", record.id)
    assert minted.key not in repr(minted)


def test_digest_depends_on_the_server_secret() -> None:
    assert KeyDigest(b"one").of("sk-tw-x") != KeyDigest(b"two").of("sk-tw-x")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "red\x1b[31m"])
def test_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        mint(name)
    assert caught.value.param == "name"


async def test_key_opens_the_door_to_its_caller(authenticator: Authenticator, store: FakeKeyStore) -> None:
    minted = mint("laptop", admin=True)
    await store.add_key(minted.record)
    assert await authenticator.caller(minted.key) == Caller(minted.record.id, "laptop", admin=True)


@pytest.mark.parametrize("presented", [None, "", "null", "undefined", "None"])
async def test_no_key_is_answered_with_how_to_send_one(authenticator: Authenticator, presented: str | None) -> None:
    assert "Authorization: Bearer" in await refusal(authenticator, presented)


@pytest.mark.parametrize(
    "presented", ["sk-proj-abc", "sk-tw-short", "sk-tw-" + "ü" * 43, "sk-tw-" + "A" * 43 + "\n", "\ud800"]
)
async def test_what_is_no_key_is_refused_without_asking_the_store(
    authenticator: Authenticator, store: FakeKeyStore, presented: str
) -> None:
    answer = await refusal(authenticator, presented)
    assert presented not in answer
    assert answer.startswith("Incorrect API key provided")
    assert store.questions == 0


async def test_wrong_and_revoked_keys_get_the_same_answer(authenticator: Authenticator, store: FakeKeyStore) -> None:
    wrong, revoked = mint(), mint()
    await store.add_key(revoked.record)
    await store.revoke_key(revoked.record.id, 6.0)
    answers = {await refusal(authenticator, wrong.key), await refusal(authenticator, revoked.key)}
    assert len(answers) == 1
    assert all(answer.startswith("Incorrect API key provided") for answer in answers)
    assert not any(minted.key in answer for minted in (wrong, revoked) for answer in answers)


async def test_key_is_looked_up_once_in_a_second(
    authenticator: Authenticator, store: FakeKeyStore, watch: Watch
) -> None:
    minted = mint()
    await store.add_key(minted.record)
    for watch.s in (0.0, 0.5, 0.99):
        await authenticator.caller(minted.key)
    assert store.questions == 1
    watch.s = 1.0
    await authenticator.caller(minted.key)
    assert store.questions == 2


async def test_revoked_key_is_refused_a_second_later(
    authenticator: Authenticator, store: FakeKeyStore, watch: Watch
) -> None:
    minted = mint()
    await store.add_key(minted.record)
    await authenticator.caller(minted.key)
    await store.revoke_key(minted.record.id, NOON)
    watch.s += 1.0
    await refusal(authenticator, minted.key)


async def test_wrong_key_is_looked_up_once_in_a_second(
    authenticator: Authenticator, store: FakeKeyStore, watch: Watch
) -> None:
    minted = mint()
    await refusal(authenticator, minted.key)
    await refusal(authenticator, minted.key)
    assert store.questions == 1
    await store.add_key(minted.record)
    watch.s += 1.0
    assert (await authenticator.caller(minted.key)).key_id == minted.record.id


async def test_caller_carries_what_its_key_may_do(authenticator: Authenticator, store: FakeKeyStore) -> None:
    minted = mint(models=["qwen-*"], rpm=60, model_limits={"qwen-vl": {"tpm": 1000}})
    await store.add_key(minted.record)
    caller = await authenticator.caller(minted.key)
    assert caller.models == ("qwen-*",)
    assert (caller.limits, caller.model_limits) == (Limits(rpm=60), {"qwen-vl": Limits(tpm=1000)})
    assert (caller.budgeted, caller.left_micros) == (False, None)


async def test_caller_knows_what_is_left_of_the_tightest_budget_today(
    authenticator: Authenticator, store: FakeKeyStore, watch: Watch
) -> None:
    minted = mint()
    budget = Budget(total_micros=1_000, day_micros=100)
    await store.add_key(minted.record, budget)
    store.balances[minted.record.id] = Balance(minted.record.id, budget, 500, 20, "2026-11-28", 90, 90)
    caller = await authenticator.caller(minted.key)
    assert (caller.budgeted, caller.left_micros) == (True, 10)
    watch.s += DAY_S
    assert (await authenticator.caller(minted.key)).left_micros == 100, "the next day begins anew"


async def test_expired_key_is_refused_from_its_moment_on(
    authenticator: Authenticator, store: FakeKeyStore, watch: Watch
) -> None:
    minted = mint(expires="1h")
    await store.add_key(minted.record)
    watch.s = 3599.9
    await authenticator.caller(minted.key)
    assert await authenticator.vendor_holder(minted.record.id) is not None
    watch.s = 3600.0
    assert "has expired" in await refusal(authenticator, minted.key), "though it was looked up a moment ago"
    assert await authenticator.vendor_holder(minted.record.id) is None


async def test_records_that_are_away_are_told_as_such_and_asked_again(
    authenticator: Authenticator, store: FakeKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_digest: str) -> None:
        raise RecordsUnavailable

    minted = mint()
    await store.add_key(minted.record)
    with monkeypatch.context() as patched:
        patched.setattr(store, "key_by_digest", away)
        with pytest.raises(RecordsUnavailable):
            await authenticator.caller(minted.key)
    assert (await authenticator.caller(minted.key)).key_id == minted.record.id


@pytest.mark.parametrize(
    ("models", "names", "may"),
    [
        ([], ["anything"], True),
        (["qwen-vl"], ["qwen-vl"], True),
        (["qwen-vl"], ["qwen-vl-max"], False),
        (["qwen-*"], ["qwen-vl-max"], True),
        (["*"], ["anything"], True),
        (["qwen-vl"], ["alias", "qwen-vl"], True),
        (["alias"], ["alias", "qwen-vl"], True),
        (["other", "glm*"], ["alias", "qwen-vl"], False),
    ],
)
def test_key_is_for_the_models_on_its_list(models: list[str], names: list[str], may: bool) -> None:
    assert Caller("key_1", "laptop", admin=False, models=tuple(models)).may_ask(*names) is may


async def test_flood_of_wrong_keys_neither_grows_nor_pushes_out_the_right_ones(
    authenticator: Authenticator, store: FakeKeyStore
) -> None:
    right, first_wrong = mint(), mint()
    await store.add_key(right.record)
    await authenticator.caller(right.key)
    await refusal(authenticator, first_wrong.key)
    for _ in range(1000):
        await refusal(authenticator, mint().key)
    asked = store.questions
    await authenticator.caller(right.key)
    assert store.questions == asked
    await refusal(authenticator, first_wrong.key)
    assert store.questions == asked + 1, "the oldest stranger should have been forgotten"


async def test_first_start_mints_an_admin_key_and_the_second_none(
    authenticator: Authenticator, store: FakeKeyStore
) -> None:
    counter = count(1)
    mint_ = KeyMint(SECRET, clock=lambda: 5.0, random_bytes=lambda size: next(counter).to_bytes(size, "big"))
    key = await first_key(store, mint_)
    assert key is not None
    assert (await authenticator.caller(key)).admin
    assert await first_key(store, mint_) is None
    assert len(store.records) == 1
