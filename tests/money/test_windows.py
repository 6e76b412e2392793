"""Three gateways hold a key to its requests a minute together: never more in any sixty seconds, and hardly fewer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.metered import Seen
from tests.money.conftest import Shown, models_of
from tests.support.callers import Got, Question, load
from tests.support.fleet import fleet
from tests.support.metered import Metered

GATEWAYS = 3
LIMIT, SPAN_S = 240, 60.0
RUN_S = float(os.environ.get("TUWEN_WINDOW_S", "125"))
LEAST_SHARE = 0.95
_FIRST_CALLERS, _MORE_CALLERS = 4, 16
"""A window frees at the pace at which it was filled; so that callers always wait for it, most come once it is full."""
_FILL_S = 20
_PAUSE_S = 0.2
_LOOKS = 1000


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that was let in: at some moment after its caller asked and before its backend was.

    Args:
        since, until: Unix time in seconds, by the one clock of this machine.
    """

    since: float
    until: float


def _admissions(got: Sequence[Got], seen: Sequence[Seen]) -> list[Admission]:
    arrived_at = {each.model: each.arrived_at for each in seen}
    return [Admission(each.asked_at, arrived_at[each.question.model]) for each in got if each.status == 200]


def _in_each_span(
    begin: float, end: float, admissions: Sequence[Admission], counts: Callable[[Admission, float, float], bool]
) -> list[int]:
    """How many count in each of many spans that begin between two moments."""
    starts = [begin + (end - begin) * look / _LOOKS for look in range(_LOOKS + 1)]
    return [sum(counts(each, start, start + SPAN_S) for each in admissions) for start in starts]


def _surely_within(each: Admission, start: float, end: float) -> bool:
    return start <= each.since and each.until < end


def _maybe_within(each: Admission, start: float, end: float) -> bool:
    return each.since < end and each.until >= start


def test_no_sliding_minute_has_more_than_the_limit_nor_much_less(
    tmp_path: Path, upstream: Metered, postgres_url: str, redis_url: str, shown: Shown
) -> None:
    with fleet(
        tmp_path, models_of(upstream), count=GATEWAYS, database_url=postgres_url, redis_url=redis_url
    ) as gateways:
        key = gateways.new_key("eager", "--rpm", str(LIMIT))

        def question(number: int, group: str) -> Question:
            return Question(gateways.urls[number % GATEWAYS], key.key, f"m-0-0-1-x{group}{number}")

        begun_at = time.time()
        with load(lambda number: question(number, "first"), callers=_FIRST_CALLERS, pause_s=_PAUSE_S) as few:
            time.sleep(_FILL_S)
            with load(lambda number: question(number, "more"), callers=_MORE_CALLERS, pause_s=_PAUSE_S) as many:
                time.sleep(RUN_S - _FILL_S)
                ended_at = time.time()
    got = [*few.got, *many.got]
    admissions = _admissions(got, upstream.ended())
    most = max(_in_each_span(begun_at - SPAN_S, ended_at, admissions, _surely_within))
    least = min(_in_each_span(begun_at, ended_at - SPAN_S, admissions, _maybe_within))
    doubts_ms = sorted(1000 * (each.until - each.since) for each in admissions)
    assert {each.status for each in got} == {200, 429}
    assert len(upstream.log()) == len(admissions)
    assert most <= LIMIT
    assert least >= LEAST_SHARE * LIMIT
    shown(
        "windows",
        gateways=GATEWAYS,
        requests=len(got),
        requests_a_minute_allowed=LIMIT,
        in_the_fullest_minute=most,
        in_the_emptiest=least,
        ms_of_doubt_at_the_median=round(doubts_ms[len(doubts_ms) // 2]),
    )
