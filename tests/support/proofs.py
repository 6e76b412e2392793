"""What folders of proofs share: lines with figures at the end, and tests that want the machine to themselves.

A folder's conftest imports the names below; pytest finds hooks and fixtures there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Shown = Callable[..., None]


@pytest.fixture
def shown(record_property: Callable[[str, object], None]) -> Shown:
    """Notes what a test has shown: `shown("a claim", kills=30)`."""

    def note(claim: str, **figures: float) -> None:
        record_property("claim", json.dumps([claim, figures]))

    return note


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: measures the machine, so nothing else may run beside it")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "claim":
                claim, figures = json.loads(value)
                words = ", ".join(f"{figure} {unit.replace('_', ' ')}" for unit, figure in figures.items())
                terminalreporter.write_line(f"shown: {claim}: {words}")
