"""Keys, what they may spend, and what was credited to them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from app.accounts.balances import Balance, Budget, TopUp
from app.accounts.interfaces import HeldKey, KeyRecord
from app.core.errors import InternalError, RecordsUnavailable
from app.core.limits import Limits
from app.store.engine import Place
from app.store.sql import SqlStore
from tests.store.requests import KEY_ID, add_key, balance_of, order, settled, sums

KEY = KeyRecord("key_1", "laptop", "d1", admin=True, created_at=10.0)
FULL = KeyRecord(
    "key_2", "笔记本", "d2", admin=False, created_at=11.5, owner="财务", models=("qwen*", "ocr"), tags=("a", "b c"),
    expires_at=20.25, limits=Limits(1, 2, 3), model_limits={"qwen-vl": Limits(rpm=4), "通义": Limits(tpm=5)},
)  # fmt: skip


async def test_key_is_found_by_digest_also_when_revoked(store: SqlStore) -> None:
    await store.add_key(KEY)
    assert await store.key_by_digest("d1") == HeldKey(KEY, Balance("key_1"))
    assert await store.key_by_digest("d2") is None
    assert await store.revoke_key("key_1", 20.0)
    assert await store.key_by_digest("d1") == HeldKey(replace(KEY, revoked_at=20.0), Balance("key_1"))


async def test_key_is_found_by_id(store: SqlStore) -> None:
    await store.add_key(KEY)
    assert await store.key_by_id("key_1") == HeldKey(KEY, Balance("key_1"))
    assert await store.key_by_id("key_2") is None


async def test_vendor_secret_of_a_live_key_is_renewed_one_by_one(store: SqlStore) -> None:
    await store.add_key(KEY)
    await store.add_key(replace(KEY, id="key_2", digest="d2"))
    assert await asyncio.gather(store.renew_vendor_secret("key_1"), store.renew_vendor_secret("key_1")) == [2, 3]
    assert await store.keys() == [replace(KEY, vendor_version=3), replace(KEY, id="key_2", digest="d2")]


async def test_vendor_secret_of_no_live_key_is_not_renewed(store: SqlStore) -> None:
    await store.add_key(KEY)
    await store.revoke_key("key_1", 20.0)
    assert await store.renew_vendor_secret("key_1") is None
    assert await store.renew_vendor_secret("key_2") is None
    assert await store.key_by_id("key_1") == HeldKey(replace(KEY, revoked_at=20.0), Balance("key_1"))


async def test_keys_come_oldest_first(store: SqlStore) -> None:
    newer, older = replace(KEY, created_at=2.0), KeyRecord("key_0", "old", "d0", admin=False, created_at=1.0)
    await store.add_key(newer)
    await store.add_key(older)
    assert await store.keys() == [older, newer]


async def test_key_is_revoked_once(store: SqlStore) -> None:
    await store.add_key(KEY)
    assert await store.revoke_key("key_1", 20.0)
    assert not await store.revoke_key("key_1", 30.0)
    assert not await store.revoke_key("key_2", 30.0)
    assert (await store.keys())[0].revoked_at == 20.0


async def test_key_of_an_id_there_is_fails(store: SqlStore) -> None:
    await store.add_key(KEY)
    with pytest.raises(InternalError):
        await store.add_key(replace(KEY, digest="d2"))


async def test_first_key_is_added_only_where_there_is_none(store: SqlStore) -> None:
    assert await store.add_first_key(KEY)
    assert await store.keys() == [KEY]
    await store.revoke_key("key_1", 20.0)
    assert not await store.add_first_key(replace(KEY, id="key_2", digest="d2"))
    assert len(await store.keys()) == 1


async def test_key_comes_back_with_all_that_it_may(store: SqlStore) -> None:
    await store.add_key(FULL, Budget(1, 2, 3))
    assert await store.keys() == [FULL]
    assert await store.key_by_id("key_2") == HeldKey(FULL, Balance("key_2", Budget(1, 2, 3)))


async def test_key_whose_digest_is_taken_fails_and_leaves_no_balance(store: SqlStore) -> None:
    await store.add_key(KEY)
    with pytest.raises(RecordsUnavailable):
        await store.add_key(replace(FULL, digest="d1"))
    assert list(await store.balances()) == ["key_1"]


async def test_first_key_has_a_balance_without_bounds(store: SqlStore) -> None:
    assert await store.add_first_key(FULL)
    assert await store.balance("key_2") == Balance("key_2")
    assert await store.keys() == [FULL]


async def test_of_several_first_keys_at_once_one_is_stored(place: Place) -> None:
    stores = [await SqlStore.open(place) for _ in range(3)]
    keys = [replace(KEY, id=f"key_{at}", digest=f"d{at}") for at in range(6)]
    added = await asyncio.gather(*(stores[at % 3].add_first_key(key) for at, key in enumerate(keys)))
    assert added.count(True) == 1
    assert [key.id for key in await stores[0].keys()] == [f"key_{added.index(True)}"]
    for store in stores:
        await store.aclose()


async def test_key_is_changed_in_what_is_said_and_in_nothing_else(store: SqlStore) -> None:
    await store.add_key(FULL, Budget(1, 2, 3))
    await store.add_key(KEY, Budget(4, 5, 6))
    changes = {"name": "desk", "models": ("x",), "tags": (), "rpm": 9, "model_limits": {"x": Limits(1)}, "owner": ""}
    assert await store.change_key("key_2", changes, {"day_micros": None, "month_micros": 7})
    changed = replace(
        FULL, name="desk", models=("x",), tags=(), limits=Limits(9, 2, 3), model_limits={"x": Limits(1)}, owner=""
    )
    assert await store.keys() == [KEY, changed]
    assert (await balance_of(store, "key_2")).budget == Budget(1, None, 7)
    assert (await balance_of(store, "key_1")).budget == Budget(4, 5, 6)


async def test_only_what_is_spent_or_only_what_is_allowed_may_be_changed(store: SqlStore) -> None:
    await store.add_key(KEY, Budget(1, 2, 3))
    assert await store.change_key("key_1", {}, {"total_micros": 10})
    assert await store.change_key("key_1", {"expires_at": 5.0}, {})
    assert await store.change_key("key_1", {}, {})
    assert await store.keys() == [replace(KEY, expires_at=5.0)]
    assert (await balance_of(store)).budget == Budget(10, 2, 3)


async def test_key_that_is_revoked_or_is_none_is_not_changed(store: SqlStore) -> None:
    await store.add_key(KEY, Budget(1, 2, 3))
    await store.revoke_key("key_1", 20.0)
    assert not await store.change_key("key_1", {"name": "desk"}, {"day_micros": 9})
    assert not await store.change_key("key_9", {"name": "desk"}, {"day_micros": 9})
    assert await store.keys() == [replace(KEY, revoked_at=20.0)]
    assert (await balance_of(store)).budget == Budget(1, 2, 3)


async def test_change_keeps_what_was_spent(store: SqlStore) -> None:
    await add_key(store, total_micros=100)
    await store.hold(order("r1", 30))
    await store.settle(settled("r2", 20))
    await store.change_key(KEY_ID, {}, {"total_micros": 60})
    assert await sums(store) == (20, 30)
    assert (await balance_of(store)).left_micros("2025-11-20") == 10


async def test_top_up_raises_what_a_key_may_spend(store: SqlStore) -> None:
    await add_key(store, total_micros=100, day_micros=7)
    balance = await store.top_up(TopUp("t1", KEY_ID, 5.0, 50, "invoice 7"))
    assert balance == Balance(KEY_ID, Budget(150, 7))
    assert balance == await store.balance(KEY_ID)


async def test_top_up_of_one_id_is_credited_once(store: SqlStore) -> None:
    await add_key(store, total_micros=100)
    for micros in (50, 50, 70):
        balance = await store.top_up(TopUp("t1", KEY_ID, 5.0, micros))
        assert balance is not None
        assert balance.budget.total_micros == 150
    assert await store.top_ups(KEY_ID) == [TopUp("t1", KEY_ID, 5.0, 50)]


async def test_top_ups_at_once_over_several_stores_are_each_credited_once(place: Place) -> None:
    stores = [await SqlStore.open(place) for _ in range(3)]
    await add_key(stores[0], total_micros=0)
    given = [TopUp(f"t{at % 10}", KEY_ID, float(at % 10), 5) for at in range(60)]
    await asyncio.gather(*(stores[at % 3].top_up(credit) for at, credit in enumerate(given)))
    assert (await balance_of(stores[1])).budget.total_micros == 50
    assert await stores[2].top_ups(KEY_ID) == given[:10]
    for store in stores:
        await store.aclose()


async def test_top_up_that_another_process_is_crediting_is_not_credited_again(postgres_url: str) -> None:
    store = await SqlStore.open(Place.of(Path(), postgres_url), journal_dir=Path("none"))
    await add_key(store, total_micros=0)
    with psycopg.connect(postgres_url) as other:
        other.execute("UPDATE balances SET credit_micros = credit_micros + 5")
        other.execute("INSERT INTO top_ups (id, key_id, at, micros) VALUES ('t1', 'key_1', 1, 5)")
        credited = asyncio.create_task(store.top_up(TopUp("t1", KEY_ID, 1.0, 5)))
        done, _ = await asyncio.wait([credited], timeout=0.2)
        assert not done
    assert await credited == Balance(KEY_ID, Budget(5))
    await store.aclose()


async def test_first_top_up_of_a_key_without_a_bound_is_all_it_may_still_spend(store: SqlStore) -> None:
    await add_key(store)
    await store.hold(order("r1", 30))
    await store.settle(settled("r2", 20))
    balance = await store.top_up(TopUp("t1", KEY_ID, 5.0, 50))
    assert balance is not None
    assert balance.budget.total_micros == 100
    assert balance.left_micros("2025-11-20") == 50


async def test_money_may_be_taken_back_below_what_was_spent(store: SqlStore) -> None:
    await add_key(store, total_micros=100)
    await store.settle(settled("r1", 80))
    balance = await store.top_up(TopUp("t1", KEY_ID, 5.0, -50))
    assert balance is not None
    assert balance.left_micros("2025-11-20") == -30


async def test_key_that_is_none_cannot_be_topped_up(store: SqlStore) -> None:
    assert await store.top_up(TopUp("t1", "key_9", 5.0, 50)) is None
    assert await store.top_ups("key_9") == []
    assert await store.balance("key_9") is None
    assert await store.balances() == {}


async def test_top_ups_of_a_key_come_oldest_first(store: SqlStore) -> None:
    await add_key(store, 1)
    await add_key(store, 2)
    given = [TopUp("c", KEY_ID, 1.0, 1, "通"), TopUp("a", KEY_ID, 2.0, 2), TopUp("b", KEY_ID, 2.0, -3)]
    for credit in [given[2], TopUp("d", "key_2", 1.5, 9), given[0], given[1]]:
        await store.top_up(credit)
    assert await store.top_ups(KEY_ID) == given


async def test_amounts_beyond_32_bits_are_kept(store: SqlStore) -> None:
    await add_key(store, total_micros=10**14, day_micros=10**14, month_micros=10**14)
    assert await store.hold(order("r1", 10**13)) is None
    await store.settle(settled("r1", 10**13 + 1))
    assert await sums(store) == (10**13 + 1, 0)
    assert (await balance_of(store)).day_micros == 10**13 + 1
