"""Many ask at once with a key whose budget is for few: no yuan more is spent, and nobody refused reaches a backend."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.money.conftest import Shown, models_of
from tests.support.callers import Question, ask_all
from tests.support.fleet import Fleet, fleet
from tests.support.gateway import free_port, wait_for_port
from tests.support.metered import Metered
from tests.support.services import mortal

REQUESTS, AT_ONCE = 1000, 200
AFFORDABLE = 20
_LEAST_SERVED = 18
_CHECKS_S = 180
_PORTS_OF_FAULTY = 5
"""It listens at the port it is told, and five above."""

# text and length whose price is exact: 6 tokens of prompt, 10 of answer
_TEXT, _OUTPUT_TOKENS = "What is on this picture?", 10

# costs in micro-yuan of one answer, by tariff; the budget is that of 20, to the micro-yuan
_COST_MICROS = {"per-call": 500_000, "per-token": 6 * 1_000 + 10 * 50_000}
_MODELS = """
[models."per-call"]
routes = [{ backend = "metered", model = "m-40-0-10" }]
tariff = { per_call = "0.50" }

[models."per-token"]
routes = [{ backend = "metered", model = "m-40-0-10" }]
tariff = { input_per_million = "1000.00", output_per_million = "50000.00" }
"""
_FAULTY_MODELS = """
[backends.faulty]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"

[models."flt-ok"]
routes = [{{ backend = "faulty", model = "flt-ok" }}]
tariff = {{ per_call = "0.50" }}
"""


@pytest.fixture
def gateways(tmp_path: Path, upstream: Metered, postgres_url: str, redis_url: str) -> Iterator[Fleet]:
    models = models_of(upstream, more=_MODELS)
    with fleet(tmp_path, models, count=2, database_url=postgres_url, redis_url=redis_url) as running:
        yield running


@pytest.mark.parametrize("tariff", ["per-call", "per-token"])
def test_budget_is_never_overshot(tariff: str, gateways: Fleet, upstream: Metered, shown: Shown) -> None:
    budget_micros = AFFORDABLE * _COST_MICROS[tariff]
    key = gateways.new_key("racer", "--budget", f"{budget_micros / 1_000_000:.6f}")
    fields = {"max_tokens": _OUTPUT_TOKENS}
    got = ask_all(
        [
            Question(gateways.urls[number % 2], key.key, tariff, _TEXT, stream=number % 4 < 2, fields=fields)
            for number in range(REQUESTS)
        ],
        at_once=AT_ONCE,
    )
    statuses = Counter(each.status for each in got)
    served = sum(each.whole for each in got)
    spent_micros = gateways.records.balances()[key.id].spent_micros
    assert set(statuses) == {200, 429}
    assert {each.error_code for each in got if each.status == 429} == {"insufficient_quota"}
    assert len(upstream.ended()) == served == statuses[200]
    assert spent_micros == served * _COST_MICROS[tariff] <= budget_micros
    assert served >= _LEAST_SERVED
    assert gateways.records.unbalanced() == {}
    shown(
        f"race, tariff {tariff}",
        requests=REQUESTS,
        at_once=AT_ONCE,
        served=served,
        of_the_budgets=AFFORDABLE,
        micros_overshot=max(0, spent_micros - budget_micros),
        refused_that_reached_the_backend=len(upstream.log()) - served,
    )


def test_black_box_runner_finds_no_overshoot(tmp_path: Path, postgres_url: str, redis_url: str, shown: Shown) -> None:
    checks = os.environ.get("CHECKS")
    if not checks:
        pytest.skip("CHECKS names no folder of black-box checks; the race above stands for it")
    runner = Path(checks) / "common" / "run_budget_race.py"
    assert runner.is_file(), f"CHECKS={checks}: there is no common/run_budget_race.py"
    with (
        _faulty(runner.with_name("fake_upstream.py")) as port,
        fleet(
            tmp_path, _FAULTY_MODELS.format(port=port), count=2, database_url=postgres_url, redis_url=redis_url
        ) as gateways,
    ):
        key = gateways.new_key("racer", "--budget", "10.00")
        urls = [word for url in gateways.urls for word in ("--base-url", url)]
        words = ["--api-key", key.key, "--upstream", f"http://127.0.0.1:{port}", "--budget", "10.00", "--cost", "0.50"]
        command = [sys.executable, str(runner), *urls, *words, "--n", str(REQUESTS), "--concurrency", str(AT_ONCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CHECKS_S, check=False)
        said = "".join(node.output for node in gateways.nodes)
    assert done.returncode == 0, done.stdout + done.stderr + said
    shown("race, by the black-box runner", requests=REQUESTS, at_once=AT_ONCE, overshot=0)


@contextmanager
def _faulty(program: Path) -> Iterator[int]:
    """The checks' own upstream; its port."""
    port = free_port(with_next=_PORTS_OF_FAULTY)
    with subprocess.Popen(
        mortal([sys.executable, str(program), "--port", str(port)]), stdout=subprocess.DEVNULL
    ) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.terminate()
