"""Two gateways behind nginx are restarted one after the other while hundreds of answers stream: no caller notices."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from tests.money.conftest import models_of
from tests.reliability.conftest import Shown
from tests.support.callers import Got, Load, Question, load
from tests.support.fleet import Fleet, Key, Node, fleet
from tests.support.metered import metered
from tests.support.nginx import NGINX, nginx
from tests.support.records import Records

STREAMS = 200
_SHORT_CALLERS = 8
_STREAM = "m-50-250-24"  # six seconds
_SHORT = "m-5-0-3"
_DRAIN_S = os.environ.get("TUWEN_TEST_DRAIN_S", "30")
"""Given too small a number, this proof must fail."""
_ENDED_S = 60


def test_rolling_restart_breaks_no_answer(tmp_path: Path, shown: Shown) -> None:
    """A minute: streams of six seconds, and two restarts that wait for them."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    environment = {"TUWEN_DRAIN_S": _DRAIN_S}
    with metered() as upstream, fleet(tmp_path, models_of(upstream), count=2, environment=environment) as gateways:
        key = gateways.new_key("caller", "--budget", "90000000.00")
        with nginx(tmp_path, *(node.port for node in gateways.nodes)) as port:
            url = f"http://127.0.0.1:{port}/v1"
            streams, shorts, codes, open_when_told = _restarted_under_load(gateways, url, key)
    broken, failed = _broken(streams.got), _broken(shorts.got)
    assert {"broken": broken, "failed": failed, "codes": codes} == {"broken": [], "failed": [], "codes": [0, 0]}
    figures = _books(gateways, [*streams.got, *shorts.got])
    shown(
        "a rolling restart behind nginx",
        restarts=len(codes),
        streams=len(streams.got),
        streams_open_when_told=min(open_when_told),
        short_requests=len(shorts.got),
        broken_streams=len(broken),
        failed_short_requests=len(failed),
        slowest_short_request_ms=round(1000 * max(got.took_s for got in shorts.got)),
        **figures,
    )


def _restarted_under_load(gateways: Fleet, url: str, key: Key) -> tuple[Load, Load, list[int], list[int]]:
    """Who asked, the exit codes, and how many streams both gateways had together when one was told to end."""

    def asking(model: str, *, stream: bool) -> Callable[[int], Question]:
        question = Question(url, key.key, model, stream=stream)
        return lambda number: replace(question, model=f"{model}-x{number}", stream=stream or number % 2 == 0)

    codes, open_when_told = [], []
    with ExitStack() as life:
        streams = life.enter_context(load(asking(_STREAM, stream=True), callers=STREAMS))
        shorts = life.enter_context(load(asking(_SHORT, stream=False), callers=_SHORT_CALLERS, pause_s=0.05))
        for node in gateways.nodes:
            open_when_told.append(_once_all_are_open(gateways.records))
            codes.append(_end(node))
            gateways.start([node])
            _wait_until(lambda node=node: httpx2.get(f"{node.root_url}/readyz", trust_env=False).status_code == 200)  # type: ignore[misc]  # the default binds this turn's value
    return streams, shorts, codes, open_when_told


def _once_all_are_open(records: Records) -> int:
    """How many streams are open, once all are that there should be."""
    found = [0]

    def all_are() -> bool:
        found.append(sum(row.stream for row in records.open_requests()))
        return found[-1] >= STREAMS

    _wait_until(all_are)
    return found[-1]


def _end(node: Node) -> int:
    """Tells it to end, as a supervisor does; its exit code."""
    assert node.gateway is not None
    process = node.gateway.process
    process.send_signal(signal.SIGTERM)
    code = process.wait(_ENDED_S)
    node.stop()
    return code


def _broken(got: list[Got]) -> list[str]:
    return [f"{each.status} {each.body[-300:]!r}" for each in got if not each.whole]


def _books(gateways: Fleet, got: list[Got]) -> dict[str, int]:
    """The figures of the ledger, all of them checked."""
    rows = gateways.records.requests()
    booked = Counter(row.model for row in rows)
    figures = {
        "rows": len(rows),
        "answers_not_settled_once": sum(booked[each.question.model] != 1 for each in got),
        "rows_not_settled": sum((row.state, row.outcome) != ("settled", "finished") for row in rows),
        "balances_off": len(gateways.records.unbalanced()),
    }
    assert {name for name, figure in figures.items() if figure} == {"rows"}
    return figures


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _ENDED_S
    while not condition():
        assert time.monotonic() < deadline, "that never came"
        time.sleep(0.1)
