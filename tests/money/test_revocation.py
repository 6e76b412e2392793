"""A revoked key opens nothing two seconds later, at whichever gateway, however busily it is used."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from tests.money.conftest import Shown, models_of
from tests.support.callers import Question, load
from tests.support.fleet import fleet
from tests.support.metered import Metered

GATEWAYS = 3
LONGEST_S = 2.0
_CALLERS = 12


def test_revoked_key_opens_nothing_two_seconds_later(
    tmp_path: Path, upstream: Metered, postgres_url: str, redis_url: str, shown: Shown
) -> None:
    with fleet(
        tmp_path, models_of(upstream), count=GATEWAYS, database_url=postgres_url, redis_url=redis_url
    ) as gateways:
        key = gateways.new_key("leaver")

        def question(number: int) -> Question:
            return Question(gateways.urls[number % GATEWAYS], key.key, "m-0-0-1")

        with load(question, callers=_CALLERS, pause_s=0.02) as callers:
            time.sleep(1.5)
            gateways.run("keys", "revoke", key.id)
            time.sleep(LONGEST_S + 1)
        revoked_at = gateways.records.revoked_at(key.id)
    assert revoked_at is not None
    late = [got.asked_at - revoked_at for got in callers.got if got.status == 200]
    refused = Counter(got.question.url for got in callers.got if got.status == 401)
    admitted = Counter(got.question.url for got in callers.got if got.status == 200)
    assert len(admitted) == len(refused) == GATEWAYS
    assert {got.status for got in callers.got} == {200, 401}
    assert max(late) <= LONGEST_S
    shown(
        "revocation",
        gateways=GATEWAYS,
        requests=len(callers.got),
        ms_until_it_opened_nothing=round(1000 * max(late)),
    )
