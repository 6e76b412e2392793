"""Proofs about money, on real servers and real processes. Each ends in a line with its figures; `make money-test` shows
them all."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import Fleet, fleet
from tests.support.metered import Metered, metered
from tests.support.proofs import Shown, pytest_configure, shown
from tests.support.proofs import pytest_terminal_summary as tell_of_claims
from tests.support.services import postgres, postgres_url, redis, redis_url

__all__ = ["Shown", "postgres", "postgres_url", "pytest_configure", "redis", "redis_url", "shown"]

_LONG_FIRST = ("test_kill", "test_windows", "test_outages")

_SEQUENCES = os.environ.get("TUWEN_SEQUENCES", "1000")
_ELSEWHERE = {
    # modules of the suite that prove a claim as well
    "tests/store/test_invariants.py": f"{_SEQUENCES} random sequences keep every invariant",
    "tests/store/test_volumes.py": "volume tiers at their edges",
    "tests/commands/test_reconcile.py": "a bill with a missing, a doubled and a dearer line",
    "tests/commands/test_export.py": "exports, CSV and JSON lines",
    "tests/api/test_billing.py": "the billing pair as clients of the one-api family read it",
    "tests/api/test_idempotency.py": "idempotency, whole and streamed",
}

# prices at which a mistake of one token can be seen
TARIFF = '{ input_per_million = "1000.00", output_per_million = "50000.00" }'
INPUT_MICROS, OUTPUT_MICROS = 1_000, 50_000


def models_of(upstream: Metered, *, more: str = "", limits: str = "") -> str:
    """A catalogue of whatever the metered upstream understands.

    Args:
        more: further sections. limits: of the backend, as a line of its section.
    """
    return f"""
[backends.metered]
kind = "openai"
base_url = "{upstream.base_url}"
{limits}

[models."m-*"]
routes = [{{ backend = "metered", model = "*" }}]
max_output = 1000
tariff = {TARIFF}
{more}
"""


@pytest.fixture
def upstream() -> Iterator[Metered]:
    with metered() as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path, upstream: Metered, postgres_url: str, redis_url: str) -> Iterator[Fleet]:
    """Two gateways over Postgres and Redis."""
    with fleet(tmp_path, models_of(upstream), count=2, database_url=postgres_url, redis_url=redis_url) as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones come first, so that none is left over at the end."""
    items.sort(key=lambda item: _place(item.path.stem))


def _place(module: str) -> int:
    return _LONG_FIRST.index(module) if module in _LONG_FIRST else len(_LONG_FIRST)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tell_of_claims(terminalreporter)
    passed = Counter(
        report.nodeid.partition("::")[0] for report in terminalreporter.stats.get("passed", []) if report.when == "call"
    )
    for module, claim in _ELSEWHERE.items():
        if passed[module]:
            terminalreporter.write_line(f"shown: {claim}: {passed[module]} tests of {module}")
