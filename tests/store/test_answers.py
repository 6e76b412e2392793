"""What is kept for an Idempotency-Key: who may answer, what comes back, and what is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text, update

from app.accounts.answers import KEPT_S, LEASE_S, Claim, KeptAnswer
from app.core.errors import RecordsUnavailable
from app.store.answers import _CLAIM, _GIVE_UP, _KEEP, _RENEW, _STANDING, SqlAnswers
from app.store.engine import Place
from app.store.sql import SqlStore
from app.store.tables import answers as table

SECRET = b"a secret of the server's"
NOW = 1_000_000.0
ANSWER = KeptAnswer((("content-type", "application/json"), ("x-tuwen-cost", "0.01")), "一只猫\n第二行".encode())
ROOM_BYTES = 16_000


def a_claim(request_id: str = "r1", *, digest: str = "d1", key_id: str = "key_a", body_digest: str = "b1") -> Claim:
    return Claim(key_id, digest, body_digest, request_id)


def an_answer(size_bytes: int) -> KeptAnswer:
    return KeptAnswer((), b"x" * size_bytes)


@pytest.fixture
def answers(store: SqlStore) -> SqlAnswers:
    return store.answers(SECRET, max_bytes=ROOM_BYTES)


async def kept(answers: SqlAnswers, claim: Claim, answer: KeptAnswer | None = ANSWER, *, now: float = NOW) -> bool:
    """Claims, and keeps an answer."""
    assert await answers.claim(claim, now=now) == "claimed"
    return await answers.keep(claim, answer, now=now)


async def rows(store: SqlStore) -> list[Any]:
    return list(await store._database.read(lambda connection: connection.execute(table.select()).all()))


async def test_of_many_twins_one_may_answer(answers: SqlAnswers) -> None:
    twins = [a_claim(f"r{number}") for number in range(100)]
    standings = await asyncio.gather(*(answers.claim(twin, now=NOW) for twin in twins))
    assert sorted(map(str, standings)) == ["claimed"] + ["running"] * 99


async def test_twins_of_an_answered_request_get_its_answer(answers: SqlAnswers) -> None:
    await kept(answers, a_claim())
    twins = [a_claim(f"t{number}") for number in range(20)]
    assert await asyncio.gather(*(answers.claim(twin, now=NOW) for twin in twins)) == [ANSWER] * 20


@pytest.mark.parametrize("answered", [True, False])
async def test_another_question_is_told_so(answers: SqlAnswers, answered: bool) -> None:
    await answers.claim(a_claim(), now=NOW)
    if answered:
        await answers.keep(a_claim(), ANSWER, now=NOW)
    assert await answers.claim(a_claim("r2", body_digest="b2"), now=NOW) == "other_body"


@pytest.mark.parametrize("other", [{"key_id": "key_b"}, {"digest": "d2"}], ids=["caller", "header"])
async def test_other_callers_and_other_headers_are_none_of_its_business(
    answers: SqlAnswers, other: dict[str, str]
) -> None:
    await kept(answers, a_claim())
    assert await answers.claim(a_claim("r2", **other), now=NOW) == "claimed"


async def test_claim_given_up_can_be_claimed_at_once(answers: SqlAnswers) -> None:
    await answers.claim(a_claim(), now=NOW)
    await answers.give_up(a_claim())
    assert await answers.claim(a_claim("r2"), now=NOW) == "claimed"


async def test_claim_and_its_end_in_one_commit_leave_nothing(answers: SqlAnswers, store: SqlStore) -> None:
    """A caller who leaves at once: both are handed over before the writer gets to either."""
    taken, _ = await asyncio.gather(answers.claim(a_claim(), now=NOW), answers.give_up(a_claim()))
    assert taken == "claimed"
    assert await rows(store) == []


async def test_twin_of_a_claim_that_ends_in_the_same_commit_is_told_to_come_again(answers: SqlAnswers) -> None:
    await answers.claim(a_claim(), now=NOW)
    twin, _ = await asyncio.gather(answers.claim(a_claim("r2"), now=NOW), answers.give_up(a_claim()))
    assert twin == "running"


async def test_giving_up_frees_nothing_that_is_kept_or_another_ones(answers: SqlAnswers) -> None:
    await kept(answers, a_claim())
    await answers.give_up(a_claim())
    assert await answers.claim(a_claim("r2"), now=NOW) == ANSWER
    await answers.claim(a_claim("r3", digest="d2"), now=NOW)
    await answers.give_up(a_claim("r4", digest="d2"))
    assert await answers.claim(a_claim("r5", digest="d2"), now=NOW) == "running"


async def test_claim_of_a_gateway_that_died_is_free_after_its_lease(answers: SqlAnswers) -> None:
    await answers.claim(a_claim(), now=NOW)
    assert await answers.claim(a_claim("r2"), now=NOW + LEASE_S - 1) == "running"
    assert await answers.claim(a_claim("r3"), now=NOW + LEASE_S) == "claimed"
    assert await answers.claim(a_claim("r4"), now=NOW + LEASE_S) == "running"


async def test_claim_that_is_renewed_stands(answers: SqlAnswers) -> None:
    claims = [a_claim(), a_claim("r2", digest="d2")]
    for claim in claims:
        await answers.claim(claim, now=NOW)
    await answers.renew(claims, now=NOW + LEASE_S - 1)
    for claim in claims:
        assert await answers.claim(a_claim("twin", digest=claim.digest), now=NOW + LEASE_S) == "running"


async def test_whoever_lost_its_claim_neither_keeps_nor_renews(answers: SqlAnswers) -> None:
    await answers.claim(a_claim("late"), now=NOW)
    later = NOW + LEASE_S
    await kept(answers, a_claim("heir"), now=later)
    await answers.keep(a_claim("late"), an_answer(10), now=later)
    await answers.renew([a_claim("late")], now=later + KEPT_S)
    assert await answers.claim(a_claim("twin"), now=later) == ANSWER
    assert await answers.claim(a_claim("twin"), now=later + KEPT_S) == "claimed"


async def test_answer_is_had_for_a_day_and_then_the_request_is_a_new_one(answers: SqlAnswers) -> None:
    await kept(answers, a_claim())
    assert await answers.claim(a_claim("r2"), now=NOW + KEPT_S - 1) == ANSWER
    new = a_claim("r3", body_digest="b3")
    assert await answers.claim(new, now=NOW + KEPT_S) == "claimed"
    assert await answers.claim(a_claim("r4", body_digest="b3"), now=NOW + KEPT_S) == "running"
    await answers.keep(new, an_answer(10), now=NOW + KEPT_S)
    assert await answers.claim(a_claim("r4", body_digest="b3"), now=NOW + KEPT_S) == an_answer(10)


async def test_twin_of_an_answer_too_large_to_be_kept_is_told_so(answers: SqlAnswers) -> None:
    await kept(answers, a_claim(), None)
    assert await answers.claim(a_claim("r2"), now=NOW) == "not_kept"
    assert await answers.claim(a_claim("r3"), now=NOW + KEPT_S) == "claimed"


async def test_large_answer_comes_back_as_it_was(store: SqlStore) -> None:
    large = KeptAnswer((), bytes(range(256)) * 4096)
    answers = store.answers(SECRET, max_bytes=2**30)
    await kept(answers, a_claim(), large)
    assert await answers.claim(a_claim("r2"), now=NOW) == large


async def test_claim_whose_commit_succeeded_unheard_is_still_ours(answers: SqlAnswers) -> None:
    """The writer carries it out again; then it finds its own row."""
    await answers.claim(a_claim(), now=NOW)
    assert await answers.claim(a_claim(), now=NOW) == "claimed"


async def test_keeping_twice_keeps_what_was_kept_first(answers: SqlAnswers) -> None:
    await kept(answers, a_claim())
    await answers.keep(a_claim(), an_answer(10), now=NOW)
    assert await answers.claim(a_claim("r2"), now=NOW) == ANSWER


async def test_sweep_forgets_what_is_old_and_nothing_else(answers: SqlAnswers, store: SqlStore) -> None:
    await kept(answers, a_claim())
    await answers.claim(a_claim("dead", digest="d2"), now=NOW)
    await kept(answers, a_claim("new", digest="d3"), now=NOW + 10)
    assert await answers.sweep(NOW + KEPT_S) == 2
    assert [row.request_id for row in await rows(store)] == ["new"]


async def test_sweep_forgets_more_than_it_takes_at_once(answers: SqlAnswers, store: SqlStore) -> None:
    claims = [a_claim(f"r{number}", digest=f"d{number}") for number in range(1100)]
    await asyncio.gather(*(answers.claim(claim, now=NOW) for claim in claims))
    assert await answers.sweep(NOW + LEASE_S) == 1100
    assert await rows(store) == []


async def test_oldest_answers_go_where_all_together_are_too_large(answers: SqlAnswers, store: SqlStore) -> None:
    claims = [a_claim(f"r{number}", digest=f"d{number}") for number in range(20)]
    for age, claim in enumerate(claims):
        await kept(answers, claim, an_answer(1000), now=NOW + age)
    await answers.sweep(NOW + 20)
    standings = [await answers.claim(a_claim("twin", digest=claim.digest), now=NOW + 20) for claim in claims]
    gone = [standing == "not_kept" for standing in standings]
    assert gone == sorted(gone, reverse=True)  # the oldest, and no other
    assert sum(row.size_bytes for row in await rows(store)) <= ROOM_BYTES
    assert 14 <= gone.count(False) <= 15  # a sweep leaves a little room, and wastes none


async def test_answers_that_fit_stay(answers: SqlAnswers) -> None:
    for number in range(10):
        await kept(answers, a_claim(f"r{number}", digest=f"d{number}"), an_answer(1000))
    await answers.sweep(NOW)
    assert await answers.claim(a_claim("twin", digest="d0"), now=NOW) == an_answer(1000)


async def test_answers_of_before_a_start_count(store: SqlStore) -> None:
    before = store.answers(SECRET, max_bytes=2**30)
    for number in range(20):
        await kept(before, a_claim(f"r{number}", digest=f"d{number}"), an_answer(1000), now=NOW + number)
    await store.answers(SECRET, max_bytes=ROOM_BYTES).sweep(NOW + 20)
    assert sum(row.size_bytes for row in await rows(store)) <= ROOM_BYTES


async def test_sweep_is_wanted_once_much_was_added(answers: SqlAnswers) -> None:
    await answers.sweep(NOW)
    assert not await kept(answers, a_claim(), an_answer(10))
    assert await kept(answers, a_claim("r2", digest="d2"), an_answer(1000))
    await answers.sweep(NOW)
    assert not await kept(answers, a_claim("r3", digest="d3"), an_answer(10))


@pytest.mark.parametrize("column", ["body_digest", "request_id"])
async def test_row_that_was_changed_by_hand_gives_no_answer(answers: SqlAnswers, store: SqlStore, column: str) -> None:
    await kept(answers, a_claim())
    await store._database.changed_rows(update(table).values({column: "other"}))
    twin = a_claim("r2", body_digest="other" if column == "body_digest" else "b1")
    assert await answers.claim(twin, now=NOW) == "not_kept"


async def test_answer_moved_to_another_caller_cannot_be_opened(answers: SqlAnswers, store: SqlStore) -> None:
    await kept(answers, a_claim())
    await store._database.changed_rows(update(table).values(key_id="key_b"))
    assert await answers.claim(a_claim("r2", key_id="key_b"), now=NOW) == "not_kept"


async def test_answer_opens_under_the_servers_secret_only(answers: SqlAnswers, store: SqlStore) -> None:
    await kept(answers, a_claim())
    assert await store.answers(b"another", max_bytes=ROOM_BYTES).claim(a_claim("r2"), now=NOW) == "not_kept"


async def test_two_answers_alike_are_stored_unlike(answers: SqlAnswers, store: SqlStore) -> None:
    for number in range(2):
        await kept(answers, a_claim("r", digest=f"d{number}"))
    nonce, tag = 12, 16  # bytes
    first, second = (row.body[nonce:-tag] for row in await rows(store))
    assert first != second
    assert "猫".encode() not in first


async def test_claims_of_two_gateways_do_not_wait_for_each_other(
    place: Place, store: SqlStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each owns what the other wants, and both ask in the opposite order, many at once."""
    other = await SqlStore.open(place, journal_dir=tmp_path / "other")
    gateways = [store.answers(SECRET, max_bytes=ROOM_BYTES), other.answers(SECRET, max_bytes=ROOM_BYTES)]
    try:
        for round_ in range(20):
            names = [f"d{round_}-{number:02}" for number in range(20)]
            standings = await asyncio.gather(
                *(gateways[0].claim(a_claim(f"a{name}", digest=name), now=NOW) for name in names),
                *(gateways[1].claim(a_claim(f"b{name}", digest=name), now=NOW) for name in reversed(names)),
            )
            assert sorted(map(str, standings)) == ["claimed"] * 20 + ["running"] * 20
        assert caplog.messages == []  # of two that wait for each other, the database ends one, which is tried again
    finally:
        await other.aclose()


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(tmp_path / "own.db")
    yield store
    await store.aclose()


async def test_claim_while_the_records_are_away_says_so(on_sqlite: SqlStore) -> None:
    # the writer tries for a second and a half
    answers = on_sqlite.answers(SECRET, max_bytes=ROOM_BYTES)
    await on_sqlite._database.writer.apply(lambda connection: connection.execute(text("DROP TABLE answers")))
    with pytest.raises(RecordsUnavailable):
        await answers.claim(a_claim(), now=NOW)


async def test_no_statement_reads_the_whole_table(on_sqlite: SqlStore) -> None:
    answers = on_sqlite.answers(SECRET, max_bytes=16)
    await kept(answers, a_claim())  # too much: a sweep does all it ever does
    swept: list[tuple[str, Any]] = []
    for engine in (on_sqlite._database.writing, on_sqlite._database._reading):
        event.listen(engine, "before_cursor_execute", lambda *call: swept.append((call[2], call[3])))
    await answers.sweep(NOW)
    own = [(sql, ("x",) * sql.count("?")) for sql in (_CLAIM, _KEEP, _RENEW, _GIVE_UP, _STANDING)]
    statements = [(sql, values) for sql, values in (*swept, *own) if "answers" in sql]
    with on_sqlite._database.writing.connect() as connection:
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all() for sql, values in statements]
    steps = [step for plan in plans for *_, step in plan if "answers" in step]
    assert len(swept) >= 3
    assert any("COVERING INDEX answers_size" in step for step in steps)
    assert [step for step in steps if step.startswith("SCAN") and "INDEX" not in step] == []
