"""What holds for every test. Sockets are limited to loopback by pytest-socket, see pyproject.toml."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# A busy machine makes single examples slow; that is no failure.
settings.register_profile("tuwen", deadline=None, print_blob=True)
settings.load_profile("tuwen")


_TESTS = Path(__file__).parent
_LONG_FIRST = (
    "secrets",
    "e2e",
    "samples",
    "deploy",
    "commands",
    "store",
    "transports",
    "gateway",
    "api",
    "media",
    "support",
)
"""Folders whose files take long come first, so that none is left over at the end while the other cores are idle."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _place(item.path))


def pytest_collection_finish() -> None:
    """Takes what is there by now out of the garbage collector's sight: it stays to the end, and looking it through held
    up all threads, with the clocks of gateways under test, for a third of a second each time."""
    gc.collect()
    gc.freeze()


def _place(path: Path) -> int:
    folder = path.relative_to(_TESTS).parts[0] if path.is_relative_to(_TESTS) else ""
    return _LONG_FIRST.index(folder) if folder in _LONG_FIRST else len(_LONG_FIRST)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that ran in this process has set how the whole process logs; the next test is not to hear of it."""
    before, root = structlog.get_config(), logging.getLogger()
    level = root.level
    yield
    structlog.configure(**before)
    root.setLevel(level)
