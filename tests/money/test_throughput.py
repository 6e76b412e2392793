"""What keys, holds, limits and the ledger cost: the same gateway with them and without, in turn, on the same core."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.money.conftest import Shown, models_of
from tests.support.fleet import Fleet, fleet
from tests.support.metered import Metered

MOST_FALL = 0.35
CONNECTIONS = 32
ROUNDS = int(os.environ.get("TUWEN_ROUNDS", "5"))
ROUND_S = 3.0
OFF = {"TUWEN_OPEN_ACCESS": "true"}
"""The environment of a gateway that asks for no key, limits nothing and books nothing."""
_MODEL = "m-0-0-5"
_GATEWAY_CORE, _LOAD_CORE = "0", "1"
_ROOT = Path(__file__).parents[2]


def _on_core(number: str) -> list[str]:
    taskset = shutil.which("taskset")
    return [taskset, "-c", number] if taskset and (os.cpu_count() or 1) > 1 else []


def _answers_a_second(gateway: Fleet, key: str) -> float:
    words = ["--port", str(gateway.nodes[0].port), "--key", key, "--model", _MODEL]
    amount = ["--connections", str(CONNECTIONS), "--seconds", str(ROUND_S)]
    command = [*_on_core(_LOAD_CORE), sys.executable, "-m", "tests.support.blast", *words, *amount]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=True)
    figures = json.loads(done.stdout)
    assert figures["failures"] == 0
    return float(figures["answers"] / figures["seconds"])


@pytest.mark.alone
def test_money_costs_at_most_a_third_of_the_throughput(tmp_path: Path, upstream: Metered, shown: Shown) -> None:
    models = models_of(upstream)
    folders = [tmp_path / name for name in ("on", "off")]
    for folder in folders:
        folder.mkdir()
    pinned = _on_core(_GATEWAY_CORE)
    with (
        fleet(folders[0], models, prefix=pinned) as metered,
        fleet(folders[1], models, prefix=pinned, environment=OFF) as unmetered,
    ):
        limits = ["--rpm", "1000000000", "--tpm", "1000000000", "--concurrency", "1000"]
        key = metered.new_key("busy", "--budget", "9000000.00", *limits).key
        for gateway in (metered, unmetered):  # connections and caches are warm from here on
            _answers_a_second(gateway, key)
        rounds = [(_answers_a_second(metered, key), _answers_a_second(unmetered, key)) for _ in range(ROUNDS)]
        assert metered.records.unbalanced() == {}
    fall = 1 - statistics.median(on / off for on, off in rounds)
    shown(
        "throughput",
        rounds=ROUNDS,
        connections=CONNECTIONS,
        answers_a_second_with_money=round(statistics.median(on for on, _ in rounds)),
        without=round(statistics.median(off for _, off in rounds)),
        percent_less=round(100 * fall),
    )
    assert fall <= MOST_FALL
