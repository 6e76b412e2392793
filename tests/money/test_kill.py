"""Gateways are killed at random moments under load: no request that a backend saw goes unbooked, no yuan is lost."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.money.conftest import INPUT_MICROS, OUTPUT_MICROS, Shown, models_of
from tests.support.callers import Got, Question, load
from tests.support.fleet import Fleet, Key, fleet
from tests.support.metered import Metered
from tests.support.records import BookedRequest, Records

KILLS = int(os.environ.get("TUWEN_KILLS", "52"))
CALLERS = 64
_CLOSED_S = 60
# answers of about a second, so that most are under way when a gateway dies
_PACE = "m-50-30-30"


def _question(number: int, gateways: Fleet, keys: list[Key]) -> Question:
    """A question that the books can be searched for: its model's name is its own."""
    return Question(
        gateways.urls[number % len(gateways.urls)],
        keys[number % len(keys)].key,
        f"{_PACE}-x{number}",
        text="What is on this picture? " + "x" * (number % 50),
        stream=number % 2 == 0,
    )


def _kill_in_turn(gateways: Fleet, kills: int) -> None:
    """One dies and comes back while the other serves on; then the other."""
    dice = random.Random(20261128)
    for number in range(kills):
        time.sleep(dice.uniform(0.05, 0.7))
        node = gateways.nodes[number % len(gateways.nodes)]
        node.kill()
        gateways.start([node])


def _closed_after_s(records: Records) -> float:
    """How long until nothing is open any more."""
    start_s = time.monotonic()
    while records.open_requests():
        assert time.monotonic() - start_s < _CLOSED_S, "holds are still open"
        time.sleep(0.5)
    return time.monotonic() - start_s


def _check_books(gateways: Fleet, upstream: Metered, got: list[Got]) -> dict[str, int]:
    """The figures, all of them checked."""
    seen = upstream.ended()
    rows = gateways.records.requests()
    by_model = {row.model: row for row in rows}
    asked = Counter(each.model for each in seen)
    booked = Counter(row.model for row in rows)
    attempts = Counter(row.backend_model for row in gateways.records.attempts())
    acknowledged = [each for each in got if each.whole]
    figures = {
        "answers": len(acknowledged),
        "requests_the_backend_saw": len(seen),
        "rows_missing": sum(1 for model in asked if asked[model] > attempts[model]),
        "rows_twice": sum(1 for model in booked if booked[model] > 1),
        "answers_without_a_settled_row": sum(1 for each in acknowledged if not _is_settled(each, by_model)),
        "answers_not_billed_as_the_backend_did": sum(
            1 for each in seen if each.finished and not _is_billed_alike(by_model.get(each.model), each.prompt_tokens)
        ),
        "balances_off": len(gateways.records.unbalanced()),
        "micros_still_held": sum(balance.held_micros for balance in gateways.records.balances().values()),
        "rows_closed_for_the_dead": sum(row.state == "expired" for row in rows),
    }
    assert {name: count for name, count in figures.items() if name in _MUST_BE_NONE and count} == {}
    return figures


_MUST_BE_NONE = {
    "rows_missing",
    "rows_twice",
    "answers_without_a_settled_row",
    "answers_not_billed_as_the_backend_did",
    "balances_off",
    "micros_still_held",
}


def _is_settled(got: Got, by_model: dict[str, BookedRequest]) -> bool:
    row = by_model.get(got.question.model)
    return row is not None and row.request_id == got.request_id and (row.state, row.outcome) == ("settled", "finished")


def _is_billed_alike(row: BookedRequest | None, prompt_tokens: int) -> bool:
    """Whether a whole answer is booked as it was billed; one whose gateway died over it may be booked at less."""
    if row is None:
        return False
    if row.outcome != "finished":
        return row.cost_micros >= INPUT_MICROS * prompt_tokens
    tokens = (row.input_tokens, row.output_tokens)
    return tokens == (prompt_tokens, 30) and row.cost_micros == INPUT_MICROS * prompt_tokens + OUTPUT_MICROS * 30


@pytest.mark.parametrize("store", ["SQLite", "Postgres"])
def test_kill_loses_no_row_and_no_yuan(
    store: str, tmp_path: Path, upstream: Metered, request: pytest.FixtureRequest, shown: Shown
) -> None:
    on_servers = store == "Postgres"
    with fleet(
        tmp_path,
        models_of(upstream),
        count=2,
        database_url=request.getfixturevalue("postgres_url") if on_servers else None,
        redis_url=request.getfixturevalue("redis_url") if on_servers else None,
    ) as gateways:
        keys = [gateways.new_key(f"caller {number}", "--budget", "9000000.00") for number in range(2)]
        with load(lambda number: _question(number, gateways, keys), callers=CALLERS) as callers:
            _kill_in_turn(gateways, KILLS // 2)
        closed_s = _closed_after_s(gateways.records)
        figures = _check_books(gateways, upstream, callers.got)
    assert figures["rows_closed_for_the_dead"] > 0, "nothing was under way when gateways died"
    shown(f"killed on {store}", kills=KILLS // 2, callers=CALLERS, seconds_to_close_all=round(closed_s), **figures)
