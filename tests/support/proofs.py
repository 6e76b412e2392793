"""What folders of proofs share: lines with figures at the end, and tests that want the machine to themselves.

A folder's conftest imports the names below; pytest finds hooks and fixtures there.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Shown = Callable[..., None]


@pytest.fixture
def shown(record_property: Callable[[str, object], None]) -> Shown:
    """Notes what a test has shown: `shown("a claim", kills=30)`."""

    def note(claim: str, **figures: float) -> None:
        record_property("claim", json.dumps([claim, figures]))

    return note


@pytest.fixture(autouse=True)
def quiet_machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test marked `alone` measures the machine: no other of these runs beside it, whichever process it is in."""
    alone = is_alone(request.node)
    with (Path(tempfile.gettempdir()) / f"tuwen-proofs-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def is_alone(item: pytest.Item) -> bool:
    """Whether a test wants the machine to itself."""
    return item.get_closest_marker("alone") is not None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: measures the machine, so nothing else may run")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "claim":
                claim, figures = json.loads(value)
                words = ", ".join(f"{figure} {unit.replace('_', ' ')}" for unit, figure in figures.items())
                terminalreporter.write_line(f"shown: {claim}: {words}")
