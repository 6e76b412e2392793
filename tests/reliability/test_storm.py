"""Every fault, again and again: each is answered as it should, memory stays, and right after all is well."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.api.pictures import data_url, picture, question
from tests.fakes import openai
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply
from tests.reliability.conftest import Shown
from tests.support.callers import Got, Question, ask_all
from tests.support.fleet import Fleet, fleet
from tests.support.server import events_of
from tests.support.storm import http_faults, ws_faults

ROUNDS, WARM_UP_ROUNDS = 20, 5
AT_ONCE = 24
_GROWTH_BYTES = 20 * 1024 * 1024
_SLOWEST_AFTER_S = 2.0
_MODELS = """
[backends.faulty]
kind = "openai"
base_url = "{url}/v1"

[backends.spark]
kind = "spark"
app_id = "a1b2c3d4"
api_key = "0123456789abcdef0123456789abcdef"
api_secret = "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk="
base_url = "{ws_url}"

[models."flt-*"]
routes = [{{ backend = "faulty", model = "*" }}]

[models.spark]
routes = [{{ backend = "spark", model = "imagev3" }}]
"""
_CLOCKS = {
    "TUWEN_FIRST_EVENT_S": "0.5",
    "TUWEN_IDLE_S": "0.5",
    "TUWEN_MAX_UPSTREAM_EVENT_BYTES": "200000",
    "TUWEN_ATTEMPTS": "2",
}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as running:
        turns = cycle(ws_faults())

        def reply(request: Received) -> Reply | WsReply:
            if request.wants_websocket:
                return ws_faults()[next(turns)]
            name = request.json["model"].removeprefix("flt-")
            if name == "ok":
                return openai.stream("well") if request.json["stream"] else openai.answer("well")
            return http_faults()[name]

        running.otherwise(reply)
        yield running


@pytest.fixture
def gateway(tmp_path: Path, upstream: Upstream) -> Iterator[Fleet]:
    models = _MODELS.format(url=upstream.url, ws_url=upstream.ws_url)
    with fleet(tmp_path, models, environment=_CLOCKS) as running:
        yield running


def test_storm_of_faults_leaves_no_trace(gateway: Fleet, upstream: Upstream, shown: Shown) -> None:
    key = gateway.new_key("weathered").key
    [url] = gateway.urls
    seen = question(data_url(picture()))
    asked = [
        Question(url, key, model, stream=stream, fields={"messages": seen})
        for stream in (True, False)
        for model in [*(f"flt-{name}" for name in http_faults()), *["spark"] * len(ws_faults())]
    ]
    sizes = []
    for _ in range(WARM_UP_ROUNDS + ROUNDS):
        got = ask_all(asked, at_once=AT_ONCE)
        assert [problem for each in got for problem in _problems(each)] == []
        sizes.append(_resident_bytes(gateway))
        upstream.requests.clear()
    grown_bytes = max(sizes[-3:]) - sizes[WARM_UP_ROUNDS - 1]
    healthy = ask_all([Question(url, key, "flt-ok", "hi") for _ in range(40)], at_once=20)
    slowest_s = max(each.took_s for each in healthy)
    assert [each.status for each in healthy] == [200] * 40
    assert slowest_s < _SLOWEST_AFTER_S
    assert grown_bytes < _GROWTH_BYTES
    shown(
        "storm of faults",
        rounds=ROUNDS,
        faults=len(asked) * ROUNDS,
        KiB_grown=grown_bytes // 1024,
        healthy_requests_after=len(healthy),
        ms_at_most_for_them=round(slowest_s * 1000),
    )


def _problems(got: Got) -> Iterator[str]:
    """What is wrong with the answer to a fault."""
    if got.question.stream and got.status == 200:
        data = events_of(got.body.decode())
        if "[DONE]" in data or not data or "error" not in json.loads(data[-1]):
            yield f"{got.question.model}: a stream that looks whole: {got.body[-300:]!r}"
    elif got.status < 400 or got.error_code is None:
        yield f"{got.question.model}: {got.status} {got.body[:300]!r}"


def _resident_bytes(gateway: Fleet) -> int:
    running = gateway.nodes[0].gateway
    assert running is not None
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{running.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
