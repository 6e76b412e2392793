"""Redis, and the database, away for half a minute under load: answers go on without the one, and nothing goes unmetered
without the other."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.money.conftest import Shown, models_of
from tests.support.callers import Got, Question, load
from tests.support.fleet import Fleet, Key, fleet
from tests.support.metered import Metered
from tests.support.services import private_postgres, private_redis, require_postgres, require_redis

OUTAGE_S = float(os.environ.get("TUWEN_OUTAGE_S", "30"))
GATEWAYS = 2
CALLERS = 16
_SETTLE_S = 40
"""The lease of an open row, two rounds of the sweeper, and some."""
_NOTICING_S = 3.0
"""In which gateways notice that a server is away, or back."""
_LONG = "m-100-50-80"
"""An answer of four seconds."""


def _question(number: int, gateways: Fleet, key: Key, model: str) -> Question:
    url = gateways.urls[number % GATEWAYS]
    return Question(url, key.key, f"{model}-x{number}", stream=number % 2 == 0)


def _between(got: Sequence[Got], since: float, until: float) -> list[Got]:
    return [each for each in got if since <= each.asked_at < until]


def test_answers_keep_coming_without_redis(tmp_path: Path, upstream: Metered, postgres_url: str, shown: Shown) -> None:
    require_redis()
    with (
        private_redis() as redis,
        fleet(
            tmp_path, models_of(upstream), count=GATEWAYS, database_url=postgres_url, redis_url=redis.url
        ) as gateways,
    ):
        key = gateways.new_key("caller", "--rpm", "1000000", "--budget", "9000000.00")
        with load(
            lambda number: _question(number, gateways, key, "m-20-5-5"), callers=CALLERS, pause_s=0.05
        ) as callers:
            time.sleep(2)
            redis.stop()
            down_at = time.time()
            time.sleep(OUTAGE_S)
            redis.start()
            up_at = time.time()
            time.sleep(6)
        during = _between(callers.got, down_at + _NOTICING_S, up_at)
        after = _between(callers.got, up_at + _NOTICING_S, time.time())
        noticed = sum("x-tuwen-notice" in got.headers for got in during)
        assert Counter(got.status for got in callers.got) == {200: len(callers.got)}
        assert noticed == len(during) > 0
        assert not any("x-tuwen-notice" in got.headers for got in after)
        assert len(gateways.records.requests()) == len(callers.got) == len(upstream.log())
        assert gateways.records.unbalanced() == {}
    shown(
        "Redis away",
        seconds=round(OUTAGE_S),
        answers_meanwhile=len(during),
        of_them_with_a_notice=noticed,
        failures=0,
        ms_at_most=round(1000 * max(got.took_s for got in _between(callers.got, down_at, up_at))),
    )


def test_nothing_goes_unmetered_without_the_database(
    tmp_path: Path, upstream: Metered, redis_url: str, shown: Shown
) -> None:
    require_postgres()
    with (
        private_postgres() as postgres,
        fleet(
            tmp_path, models_of(upstream), count=GATEWAYS, database_url=postgres.url, redis_url=redis_url
        ) as gateways,
    ):
        key = gateways.new_key("caller", "--budget", "9000000.00")
        with load(lambda number: _question(number, gateways, key, _LONG), callers=CALLERS, pause_s=0.05) as callers:
            time.sleep(5)
            postgres.stop()
            down_at = time.time()
            time.sleep(OUTAGE_S)
            asked_while_down = [each for each in upstream.log() if each.arrived_at > down_at + 0.2]
            postgres.start()
            up_at = time.time()
            time.sleep(8)
        _wait_until_closed(gateways)
        running = [got for got in callers.got if got.asked_at < down_at - 0.5 and got.ended_at > down_at]
        during = _between(callers.got, down_at + 0.2, up_at - 0.5)
        rows = Counter(row.model for row in gateways.records.requests())
        missing = {each.model for each in upstream.ended()} - set(rows)
        assert asked_while_down == []
        assert Counter(got.status for got in during) == {503: len(during)}
        assert len(running) > CALLERS / 2
        assert [got for got in running if not got.whole] == []
        assert missing == set()
        assert max(rows.values()) == 1
        assert gateways.records.unbalanced() == {}
        assert gateways.records.balances()[key.id].held_micros == 0
        assert {got.status for got in _between(callers.got, up_at + _NOTICING_S, time.time())} == {200}
    shown(
        "database away",
        seconds=round(OUTAGE_S),
        refused_meanwhile=len(during),
        of_them_asked_of_the_backend=len(asked_while_down),
        answers_finished_that_ran=len(running),
        rows_missing_afterwards=len(missing),
        keys_off_balance=0,
    )


def _wait_until_closed(gateways: Fleet) -> None:
    deadline = time.monotonic() + _SETTLE_S
    while gateways.records.open_requests():
        assert time.monotonic() < deadline, "holds are still open"
        time.sleep(0.5)
