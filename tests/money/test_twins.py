"""A hundred requests with one Idempotency-Key are one request: asked once, paid once, answered alike."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.money.conftest import INPUT_MICROS, OUTPUT_MICROS, Shown
from tests.support.callers import Question, ask_all
from tests.support.fleet import Fleet
from tests.support.metered import Metered

TWINS = 100
_TEXT, _PROMPT_TOKENS, _WORDS = "What is on this picture?", 6, 10


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_twins_are_asked_and_paid_once(stream: bool, pair: Fleet, upstream: Metered, shown: Shown) -> None:
    key = pair.new_key("twin", "--budget", "100.00")
    twins = [
        Question(
            pair.urls[number % len(pair.urls)],
            key.key,
            f"m-200-10-{_WORDS}",
            _TEXT,
            stream=stream,
            fields={"max_tokens": _WORDS},
            headers={"idempotency-key": "the order of the 29th"},
        )
        for number in range(TWINS)
    ]
    got = ask_all(twins)
    late = ask_all(twins[: len(pair.urls)])
    spent_micros = pair.records.balances()[key.id].spent_micros
    statuses = Counter(each.status for each in got)
    answers = Counter(each.body for each in [*got, *late] if each.status == 200)
    charges = spent_micros / (INPUT_MICROS * _PROMPT_TOKENS + OUTPUT_MICROS * _WORDS)
    assert len(upstream.log()) == 1
    assert charges == 1
    assert set(statuses) <= {200, 409}
    assert {each.status for each in late} == {200}
    assert len(answers) == 1
    assert pair.records.unbalanced() == {}
    shown(
        f"twins, {'streamed' if stream else 'whole'}",
        twins=TWINS,
        asked_of_the_backend=len(upstream.log()),
        charged=round(charges),
        answered_alike=statuses[200],
        told_to_wait=statuses[409],
    )
